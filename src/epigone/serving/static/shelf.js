// The texts in this browser: choose, begin, name, delete, save as a file, open from one.

import {fillSelect, get, make, say, showProblem} from './dom.js';
import {makeId, nameText} from './texts.js';
import {exportText, importText} from './transfer.js';
import {Tree} from './tree.js';

export class Shelf {
  /** @param {import('./texts.js').Texts} texts @param {(tree: Tree) => void} onOpen */
  constructor(texts, onOpen) {
    Object.assign(this, {texts, onOpen, id: '', title: '', version: 0});
    this.tree = new Tree();
    this.listen();
  }

  listen() {
    const click = (id, work) => get(id).addEventListener('click', () => { get('file-menu').open = false; work(); });
    get('texts').addEventListener('change', event => this.open(event.target.value));
    get('new-text').addEventListener('click', () => { this.save(); this.begin(new Tree(), ''); });
    click('rename', () => this.askName());
    click('delete', () => this.delete());
    click('import', () => get('import-file').click());
    click('print', () => window.print());
    for (const button of document.querySelectorAll('[data-export]')) {
      button.addEventListener('click', () => { get('file-menu').open = false; this.download(button.dataset.export); });
    }
    get('import-file').addEventListener('change', event => this.readFile(event.target));
    get('rename-form').addEventListener('submit', event => { event.preventDefault(); this.rename(get('rename-to').value); });
    window.addEventListener('storage', event => event.key === `epigone:text:${this.id}` && this.noticeOther());
  }

  get name() { return nameText(this.title, this.tree.text()); }

  /** The text that was written on last, or a new one. */
  openLast() {
    const last = this.texts.list()[0];
    if (last) this.open(last.id);
    else this.begin(new Tree(), '');
  }

  open(id) {
    this.save();
    const tree = this.texts.load(id), entry = this.texts.list().find(one => one.id === id);
    if (!tree || !entry) {
      showProblem('This text cannot be read any more.');
      this.texts.remove(id);
      this.begin(new Tree(), '');
      return;
    }
    this.show(id, entry.title, tree);
  }

  begin(tree, title) {
    this.show(makeId(), title, tree);
  }

  show(id, title, tree) {
    Object.assign(this, {id, title, tree, version: this.texts.version(id)});
    this.onOpen(tree);
    this.dirty = false;  // that it is shown does not change it
    this.list();
  }

  list() {
    const entries = this.texts.list().filter(entry => entry.id !== this.id);
    fillSelect(get('texts'), [[this.id, this.name], ...entries.map(entry => [entry.id, entry.name])], this.id);
  }

  /** Keep the text in the browser, if it has changed. An empty one is not kept. */
  save() {
    if (!this.dirty || (!this.tree.text() && this.tree.states.size === 1)) return;
    try {
      if (this.texts.version(this.id) > this.version) this.id = makeId();  // another window has gone on with it: keep both
      this.version += 1;
      this.texts.save(this.id, this.title, this.tree, this.version);
      this.dirty = false;
      this.list();
    } catch (error) {
      showProblem(error, 'room');
    }
  }

  noticeOther() {
    if (this.texts.version(this.id) <= this.version) return;
    showProblem('This text was changed in another window. What you write here is kept as a text of its own.', 'other');
  }

  askName() {
    get('rename-form').hidden = false;
    get('rename-to').value = this.name;
    get('rename-to').select();
    get('rename-to').focus();
  }

  rename(title) {
    get('rename-form').hidden = true;
    this.title = title.trim();
    this.dirty = true;
    this.save();
    this.list();
    get('text').focus();
  }

  delete() {
    if (!window.confirm(`Delete “${this.name}” with its history?`)) return;
    this.texts.remove(this.id);
    this.dirty = false;
    this.openLast();
    say('The text was deleted.');
  }

  download(kind) {
    const {name, type, data} = exportText(kind, {title: this.name, tree: this.tree});
    const url = URL.createObjectURL(new Blob([data], {type})), link = make('a', {href: url, download: name});
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  async readFile(input) {
    const [file] = input.files;
    input.value = '';
    if (!file) return;
    try {
      const {title, tree} = importText(await file.text());
      this.save();
      this.begin(tree, title);
      this.dirty = true;
      this.save();
      say('The text was opened.');
    } catch (error) {
      showProblem(error instanceof TypeError ? error : 'This file cannot be read.');
    }
  }
}
