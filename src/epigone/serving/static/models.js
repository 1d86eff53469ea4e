// The models that the server has, and whether the server is there.

import {ask} from './api.js';
import {clearProblem, count, fillSelect, get, say, showProblem, tame} from './dom.js';

const BEAT = 5000, REFRESH = 15_000, WARM = {prompt: '', max_tokens: 1};

/**
 * @typedef {{name: string, kind: 'run'|'base', usable: boolean, state: string, title: string, base: string|null, parameters?: number,
 *   temperature: number|null, stop_at: string, best: any, can: Record<string, boolean>}} Model
 */

export class Models {
  /** @param {() => void} onChange */
  constructor(onChange) {
    /** @type {Model[]} */
    this.all = [];
    this.onChange = onChange;
    this.warmed = new Set();
    this.isThere = true;
  }

  get usable() { return this.all.filter(model => model.usable); }

  get runs() { return this.all.filter(model => model.kind === 'run'); }

  get learning() { return this.runs.filter(model => model.state === 'learning'); }

  /** @returns {Model|undefined} */
  find(name) { return this.all.find(model => model.name === name); }

  /** What a model can be mixed with: other models that were tuned from the same base, and that base. */
  listMixable(model) {
    const root = each => each.kind === 'base' ? each.name : each.base;
    if (!model || !root(model) || root(model) === 'none') return [];
    return this.usable.filter(each => each.name !== model.name && root(each) === root(model));
  }

  async load() {
    const answer = await ask('/api/models');
    this.all = answer.models;
    get('version-note').textContent = `epigone ${answer.version}.`;
    this.onChange();
  }

  /** Have the server load a model now, so that the first words come at once. */
  async warm(name) {
    if (!name || this.warmed.has(name)) return;
    this.warmed.add(name);
    try {
      await ask('/v1/completions', {model: name, ...WARM});
    } catch {
      this.warmed.delete(name);  // what is wrong is said when it is asked for text
    }
  }

  /** Notice when the server goes and when it comes back, and new models. */
  watch() {
    let refreshed = Date.now();
    setInterval(async () => {
      if (document.hidden) return;
      await this.beat();
      if (this.isThere && Date.now() - refreshed > REFRESH) {
        refreshed = Date.now();
        await this.load().catch(() => {});
      }
    }, BEAT);
  }

  async beat() {
    const isThere = await fetch('/health', {cache: 'no-store'}).then(response => response.ok, () => false);
    if (isThere === this.isThere) return;
    this.isThere = isThere;
    if (!isThere) {
      showProblem('The server is not there. Your text is safe in this browser; go on when epigone serve runs again.', 'gone');
      return;
    }
    clearProblem('gone');
    clearProblem('error');
    say('The server is there again.');
    this.warmed.clear();
    await this.load().catch(() => {});
  }
}

/** @param {Model[]} models */
export function listOptions(models) {
  const states = {learning: ', learning', stopped: ', stopped early', base: ', not tuned'};
  const describe = model => `${tame(model.name)}${states[model.state] ?? ''}${model.usable ? '' : ' (no model yet)'}`;
  return models.map(model => [model.name, describe(model), !model.usable]);
}

/** Put the models into a list, and keep or make a choice. */
export function fillModels(select, models, chosen = select.value) {
  const usable = models.filter(model => model.usable), found = usable.find(model => model.name === chosen) ?? usable[0];
  fillSelect(select, listOptions(models), found?.name);
}

/** What kind of model it is, in a sentence. @param {Model|undefined} model */
export function describeModel(model) {
  if (!model) return 'There is no model here yet. Train one: epigone train TEXT';
  const {parameters = 0} = model, thousands = count(Math.round(parameters / 1e3), 'thousand parameter');
  const millions = count(Math.round(parameters / 1e5) / 10, 'million parameter');
  const size = parameters ? `, ${parameters < 1e6 ? thousands : millions}` : '';
  if (model.kind === 'base') return `A general model that has not learned from a text of yours${size}.`;
  const title = tame(model.title), isNew = model.base === 'none' || !model.base;
  const from = isNew ? 'Learned from nothing but ' : `Tuned from ${tame(model.base)} on `;
  return `${from}${title}${size}.`;
}
