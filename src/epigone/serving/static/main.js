// The page: puts its parts together and says what is shown.

import {Popover} from './alternatives.js';
import {Compare} from './compare.js';
import {copy, fillSelect, get, say, sayDuration, showProblem, tame} from './dom.js';
import {findOrder} from './generation.js';
import {Learning} from './learning.js';
import {LONGEST_PROMPT, makeFragment, readFragment} from './link.js';
import {describeModel, fillModels, Models} from './models.js';
import {Quiz} from './quiz.js';
import {Settings} from './settings.js';
import {Shelf} from './shelf.js';
import {Texts} from './texts.js';
import {Tree} from './tree.js';
import {Writing} from './writing.js';

const VIEWS = ['write', 'compare', 'learning', 'quiz'];

class Page {
  constructor() {
    this.models = new Models(() => this.showModels());
    this.settings = new Settings(() => {});
    this.shelf = new Shelf(new Texts(localStorage), () => this.writing?.open());
    this.writing = new Writing(this.models, this.settings, this.shelf, new Popover());
    this.learning = new Learning(this.models);
    this.compare = new Compare(this.models, model => this.writing.makeOrder(model), generation => this.takeCompared(generation));
    this.quiz = new Quiz();
    this.listen();
  }

  listen() {
    for (const button of document.querySelectorAll('[data-view]')) button.addEventListener('click', () => this.show(button.dataset.view));
    get('model').addEventListener('change', () => this.chooseModel(get('model').value));
    get('problem').lastElementChild.addEventListener('click', () => { get('problem').hidden = true; });
    get('live').addEventListener('click', () => { this.show('learning'); this.learning.open(this.models.learning[0]?.name); });
    get('copy-link').addEventListener('click', () => this.copyLink());
    window.addEventListener('pagehide', () => this.writing.save.now());
    document.addEventListener('visibilitychange', () => document.hidden && this.writing.save.now());
    window.addEventListener('hashchange', () => this.followLink());
  }

  async start() {
    if (/Mac|iPhone|iPad/.test(navigator.userAgent)) for (const key of document.querySelectorAll('.control')) key.textContent = '⌘';
    if (matchMedia('(max-width: 60rem)').matches) get('settings').open = false;
    this.settings.show();
    if (!this.followLink()) this.shelf.openLast();
    try {
      await this.models.load();
    } catch (error) {
      this.models.isThere = error.status !== 0;
      showProblem(error, error.status === 0 ? 'gone' : 'error');
    }
    this.models.watch();
  }

  showModels() {
    const {models, settings} = this, wanted = settings.values.model || get('model').value;
    fillModels(get('model'), models.all, wanted);
    if (!models.usable.length) fillSelect(get('model'), [['', 'none yet']]);
    const model = models.find(get('model').value);
    if (model?.name !== settings.model?.name || !settings.model) this.chooseModel(get('model').value);
    else settings.useModel(model, models.listMixable(model));
    this.showLive();
    this.compare.fill();
    this.learning.fill();
  }

  chooseModel(name) {
    const model = this.models.find(name);
    this.settings.useModel(model?.usable ? model : undefined, this.models.listMixable(model));
    get('about').textContent = describeModel(model);
    this.quiz.show(model);
    this.compare.fill();
    this.models.warm(model?.usable ? name : '');
    this.writing.look();
  }

  showLive() {
    const [run] = this.models.learning, chip = get('live');
    chip.hidden = !run;
    if (run) chip.textContent = `${tame(run.name)} is learning now. Watch`;
  }

  show(view) {
    for (const name of VIEWS) get(name).hidden = name !== view;
    for (const button of document.querySelectorAll('[data-view]')) {
      if (button.dataset.view === view) button.setAttribute('aria-current', 'page');
      else button.removeAttribute('aria-current');
    }
    if (view === 'compare') this.compare.show(this.readPrompt());
    if (view === 'learning') this.learning.open();
    else this.learning.close();
    if (view === 'quiz') this.quiz.show(this.models.find(get('model').value));
    if (view === 'write') this.writing.editor.fit();
  }

  readPrompt() {
    const {editor} = this.writing;
    return findOrder(editor.text, editor.selection).prompt;
  }

  takeCompared(generation) {
    const {editor} = this.writing, {at, del} = findOrder(editor.text, editor.selection);
    this.show('write');
    this.writing.takeFrom(generation, at, del);
  }

  // -- links

  /** Copy the address that makes the last continuations again, or else one with the text up to the cursor. */
  async copyLink() {
    const {order} = this.writing, {values} = this.settings;
    const prompt = order?.order.prompt ?? this.readPrompt(), seed = order?.order.seed ?? values.seed;
    const {model, ending: stopAt, tuned} = this.settings, temperature = values.temperature ?? tuned;
    const mixed = {mix: this.settings.other, share: this.settings.other ? values.share : null};
    const fragment = makeFragment({...values, ...mixed, model: model?.name, stopAt, temperature, prompt, seed});
    const link = `${location.origin}${location.pathname}#${fragment}`;
    history.replaceState(null, '', link);
    const where = await copy(link) ? 'The link is copied.' : 'The link is in the address line.';
    const note = prompt.length > LONGEST_PROMPT ? `${where} The text is too long for it, so it has the settings only.` : where;
    get('seed-help').textContent = note;
    say(note);
  }

  /** A new text with what a link asks for. Nothing is written before someone wants it. */
  followLink() {
    const asked = readFragment(location.hash);
    if (!asked) return false;
    this.settings.adopt(asked);
    this.shelf.save();
    this.shelf.begin(new Tree(asked.prompt ?? ''), '');
    history.replaceState(null, '', location.pathname);
    if (this.models.all.length) {
      this.showModels();
      if (asked.model && this.models.find(asked.model)) { get('model').value = asked.model; this.chooseModel(asked.model); }
    }
    say('A link was followed: press Control and Enter to repeat its continuations.');
    return true;
  }
}

new Page().start();
