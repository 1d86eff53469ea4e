// Passages that stand in the training text of a model: found by the server, underlined in the text, listed with their places.

import {ask} from './api.js';
import {get, make, count} from './dom.js';
import {convertPlaces, findTail} from './tokens.js';

/** Between two questions while a text grows, at least; and characters of a text that are looked at. */
const PAUSE = 600, MOST_TEXT = 40_000;

/** @typedef {{start: number, end: number, characters: number, name: string, before: string, original: string, after: string}} Passage */

export class CopyFinder {
  /** @param {(model: string) => boolean} canFind whether the server has the training text of a model */
  constructor(canFind) {
    this.canFind = canFind;
  }

  /** The copied passages of a text, of a long one those at its end. @returns {Promise<Passage[]>} */
  async find(model, text, signal) {
    if (!this.canFind(model) || text.length < 25) return [];
    const start = findTail(text, MOST_TEXT), part = text.slice(start);
    try {
      const {passages} = await ask('/api/copies', {model, text: part}, {signal});
      const ends = passages.flatMap(passage => [passage.start, passage.end]).sort((one, other) => one - other);
      const places = convertPlaces(part, ends), units = new Map(ends.map((end, i) => [end, places[i]]));
      return passages.map(passage => ({...passage, start: start + units.get(passage.start), end: start + units.get(passage.end)}));
    } catch {
      return [];  // the marks are a help; what is wrong with the server is said elsewhere
    }
  }

  /** Ask now and again while a text grows, and once more at its end. @param {() => Promise<void>} check */
  watch(check) {
    let ended = false, wake = () => {};
    const loop = async () => {
      for (;;) {
        const last = ended;
        if (!last) await new Promise(resolve => { wake = resolve; setTimeout(resolve, PAUSE); });
        await check();
        if (last) return;
      }
    };
    loop();
    return {finish() { ended = true; wake(); }};
  }
}

/** The place in the training text, as the content of a list beside the words. @param {Passage} passage @returns {Node[]} */
export function describePlace(passage) {
  const {before, original, after} = passage;
  const text = make('p', {class: 'written place', dir: 'auto', lang: ''},
    before.trim() && `…${before.trimStart()}`, make('mark', {}, original), after.trim() && `${after.trimEnd()}…`);
  const where = passage.name ? ['In ', make('bdi', {}, passage.name), ':'] : ['In the training text:'];
  const length = `${count(passage.characters, 'character')} stand in the training text.`;
  return [make('p', {class: 'quiet'}, length), make('p', {class: 'quiet'}, ...where), text];
}

/** List all passages below the text, so that they can be reached without a mouse. @param {Passage[]} passages */
export function listPlaces(passages, onGo) {
  const box = get('places');
  box.hidden = !passages.length;
  const stand = passages.length === 1 ? 'stands' : 'stand';
  box.firstElementChild.textContent = `${count(passages.length, 'passage')} ${stand} in the training text`;
  box.lastElementChild.replaceChildren(...passages.map(passage => {
    const button = make('button', {type: 'button'}, 'To the passage');
    button.addEventListener('click', () => onGo(passage));
    return make('li', {}, ...describePlace(passage), button);
  }));
}
