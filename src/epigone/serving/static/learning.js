// How a run learned, or is learning now: its losses, what it wrote on the way, and how long it will take.

import {ask, ServerError} from './api.js';
import {drawCurves} from './curves.js';
import {fillSelect, get, later, make, sayDuration, showProblem, tame} from './dom.js';
import {fillModels} from './models.js';

export class Learning {
  /** @param {import('./models.js').Models} models */
  constructor(models) {
    this.models = models;
    this.draw = later(() => this.show(), 200);
    get('run').addEventListener('change', () => this.open(get('run').value));
    window.addEventListener('resize', () => this.run && this.draw());
    get('sample-prompt').addEventListener('change', () => this.run && this.showSamples());
  }

  /** The run that is shown stays; at first it is the model that one writes with. */
  fill() {
    const runs = this.models.runs.map(model => ({...model, usable: true})), select = get('run');
    fillModels(select, runs, this.name ?? (this.chosen || get('model').value));
    select.disabled = !runs.length;
  }

  /** Show a run and follow it, if it is learning. @param {string} [chosen] its name, where it was chosen here */
  async open(chosen) {
    this.close();
    this.chosen = chosen ?? this.chosen;
    this.fill();
    const name = get('run').value;
    if (!name) { get('run-state').textContent = 'There is no run here yet. Train one: epigone train TEXT'; return; }
    this.name = name;
    await this.read(name);
    if (this.name === name && this.run?.state === 'learning') this.follow(name);
  }

  /** Everything of a run so far. */
  async read(name) {
    try {
      const run = await ask(`/api/runs/${encodeURIComponent(name)}`);
      if (this.name !== name) return;
      this.run = run;
      this.show();
    } catch (error) {
      if (this.name === name) showProblem(error instanceof ServerError ? error : 'This run cannot be shown.');
    }
  }

  close() {
    this.source?.close();
    this.source = null;
    this.name = null;
    this.run = null;
  }

  /** Add what happens from now on, and what happened until the connection stood. */
  follow(name) {
    const source = this.source = new EventSource(`/api/runs/${encodeURIComponent(name)}/live`), isOurs = () => this.source === source;
    let early = [];
    source.addEventListener('open', async () => {
      await this.read(name);
      for (const event of early ?? []) if (isOurs()) this.take(event);
      early = null;
    });
    source.addEventListener('message', message => {
      if (message.data === '[DONE]') source.close();
      else if (early) early.push(JSON.parse(message.data));
      else if (isOurs()) this.take(JSON.parse(message.data));
    });
    source.addEventListener('error', () => {
      source.close();
      setTimeout(() => isOurs() && this.open(name), 3000);
    });
  }

  take(event) {
    const {run} = this, lists = {stepped: run.steps, evaluated: run.evaluations, sampled: run.samples}, list = lists[event.event];
    if (event.event === 'finished') { this.open(this.name); this.models.load().catch(() => {}); return; }
    if (!list || list.some(one => one.step === event.step && one.share === event.share)) return;
    list.push(event);
    if (event.event === 'stepped') run.seconds_left = event.seconds_left;
    this.draw();
  }

  show() {
    const {run} = this;
    if (!run) return;
    get('run-state').textContent = describeState(run);
    const progress = run.steps.at(-1)?.progress;
    get('run-progress').hidden = run.state !== 'learning' || progress === undefined;
    if (progress !== undefined) get('run-progress').value = progress;
    this.showCurves();
    this.showTable();
    this.fillPrompts();
    this.showSamples();
  }

  showCurves() {
    const {steps, evaluations} = this.run, drawn = evaluations.filter(one => Number.isFinite(one.loss) && one.share === 1);
    const training = steps.filter(one => Number.isFinite(one.loss)).map(one => ({x: one.epoch, y: one.loss}));
    const validation = drawn.map(one => ({x: one.epoch, y: one.loss})), best = findBest(drawn);
    get('curve-box').hidden = training.length + validation.length < 2;
    if (get('curve-box').hidden) return;
    const lines = [
      {name: 'training loss', kind: 'training', points: training},
      {name: 'validation loss', kind: 'validation', points: validation},
    ];
    const lowest = best ? `It is lowest after ${format(best.epoch)} passes, at ${best.loss.toFixed(3)} nats per token.` : '';
    const about = {summary: `Training and validation loss. ${lowest}`, best: best && {x: best.epoch, y: best.loss}};
    get('curve').replaceChildren(drawCurves(lines, {...about, width: get('curve').clientWidth || 640}));
  }

  showTable() {
    const best = findBest(this.run.evaluations), cell = value => make('td', {}, value === null ? '' : value.toFixed(3));
    const share = one => make('td', {}, `${(100 * one.accuracy).toFixed(1)} %`);
    const rows = this.run.evaluations.map(one => make('tr', {class: one === best ? 'best' : ''},
      make('th', {scope: 'row'}, format(one.epoch)), cell(one.training_loss), cell(one.loss), share(one)));
    get('curve-table').hidden = !rows.length;
    get('curve-table').querySelector('tbody').replaceChildren(...rows);
  }

  fillPrompts() {
    const prompts = [...new Set(this.run.samples.flatMap(one => one.samples.map(sample => sample.prompt)))];
    get('samples-box').hidden = !prompts.length;
    const name = prompt => prompt.trim() ? tame(prompt.replace(/\s+/g, ' ')) : '(none: the model begins)';
    fillSelect(get('sample-prompt'), prompts.map(prompt => [prompt, name(prompt)]));
  }

  /** The newest first. */
  showSamples() {
    const prompt = get('sample-prompt').value, best = findBest(this.run.evaluations);
    const cards = this.run.samples.toReversed().flatMap(one => {
      const kept = best && one.step === best.step && one.share === best.share, title = describeTime(one) + (kept ? ': the best' : '');
      return one.samples.filter(sample => sample.prompt === prompt).map((sample, i, {length}) =>
        make('div', {class: `text${kept ? ' kept' : ''}`}, make('h4', {}, length > 1 ? `${title}, text ${i + 1}` : title),
          make('p', {class: 'written', dir: 'auto', lang: ''}, make('span', {class: 'prompt'}, sample.prompt), sample.text)));
    });
    get('samples').replaceChildren(...cards);
  }
}

function findBest(evaluations) {
  return evaluations.filter(one => one.best && Number.isFinite(one.loss)).at(-1) ?? null;
}

function describeTime({epoch, share}) {
  if (share < 1) return 'mixed with the base';
  return epoch ? `after ${format(epoch)} ${epoch === 1 ? 'pass' : 'passes'}` : 'before it learned';
}

function describeState(run) {
  const best = findBest(run.evaluations), bits = best?.bits_per_byte.toFixed(2);
  const at = best ? ` The best model so far needs ${bits} bits for each byte of text it does not know.` : '';
  const left = Number.isFinite(run.seconds_left) ? `; about ${sayDuration(run.seconds_left)} left` : '';
  const done = run.steps.length ? `: ${Math.round(100 * run.steps.at(-1).progress)} % done${left}` : '';
  if (run.state === 'learning') return `It is learning now${done}.${at}`;
  const end = run.state === 'stopped' ? 'It was stopped before it was done.' : 'It has finished learning.';
  return end + at.replace(' so far', '');
}

function format(number) { return String(Number(number.toFixed(2))); }
