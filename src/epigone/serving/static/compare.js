// Two models continue the same beginning side by side.

import {get, say, showProblem} from './dom.js';
import {Generation} from './generation.js';
import {fillModels} from './models.js';

const SIDES = ['a', 'b'], SHOWN = 160;

export class Compare {
  /**
   * @param {import('./models.js').Models} models
   * @param {(model: import('./models.js').Model) => {order: import('./generation.js').Order, at: number, del: number}} makeOrder
   * @param {(generation: Generation) => void} onTake
   */
  constructor(models, makeOrder, onTake) {
    Object.assign(this, {models, makeOrder, onTake, generations: [], chosen: new Set()});
    get('compare-go').addEventListener('click', () => this.start());
    get('compare-stop').addEventListener('click', () => this.stop());
    SIDES.forEach((side, i) => {
      get(`compare-take-${side}`).addEventListener('click', () => this.take(i));
      get(`compare-${side}`).addEventListener('change', () => this.chosen.add(side));
    });
  }

  /** Until others are chosen here, the first is the model that one writes with, and the second another one. */
  fill() {
    const usable = this.models.usable, [first, second] = SIDES.map(side => get(`compare-${side}`));
    fillModels(first, usable, this.chosen.has('a') ? first.value : get('model').value);
    const other = usable.find(model => model.name !== first.value);
    fillModels(second, usable, this.chosen.has('b') ? second.value : other?.name);
  }

  /** @param {string} prompt the text up to the cursor */
  show(prompt) {
    this.fill();
    const end = prompt.length > SHOWN ? `… ${prompt.slice(-SHOWN).replace(/^\S{0,40}\s+/u, '')}` : prompt;
    get('compare-prompt').textContent = end || '(nothing: the models begin)';
  }

  async start() {
    this.stop();
    const models = SIDES.map(side => this.models.find(get(`compare-${side}`).value));
    if (models.some(model => !model)) return;
    const seed = this.makeOrder(models[0]).order.seed;
    this.generations = models.map(model => new Generation({...this.makeOrder(model).order, n: 1, seed}));
    this.setRunning(true);
    const results = await Promise.allSettled(this.generations.map((generation, i) => this.run(generation, SIDES[i])));
    const failed = results.find(result => result.status === 'rejected');
    if (failed) showProblem(failed.reason);
    else say('Both have ended.');
    this.setRunning(false);
  }

  async run(generation, side) {
    const box = get(`compare-text-${side}`);
    box.textContent = '';
    await generation.run((_candidate, tokens) => {
      if (this.generations.includes(generation)) box.append(tokens.map(token => token.text).join(''));
    });
  }

  setRunning(isRunning) {
    get('compare-stop').disabled = !isRunning;
    SIDES.forEach((side, i) => { get(`compare-take-${side}`).disabled = isRunning || !this.generations[i]?.candidates[0].text; });
  }

  stop() {
    for (const generation of this.generations) generation.stop();
  }

  take(i) {
    this.stop();
    this.onTake(this.generations[i]);
  }
}
