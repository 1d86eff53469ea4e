// The history of the text as a list: what was written by whom, where it branches, and where one is.

import {get, make} from './dom.js';

const MOST_ROWS = 300, MOST_DEPTH = 6, KINDS = {start: 'beginning', edit: 'you', model: 'model'};

/** @param {import('./tree.js').Tree} tree @param {(id: number) => void} onGo */
export function showHistory(tree, onGo) {
  showVersions(tree);
  if (!get('history').open) return;
  const hadFocus = get('outline').contains(document.activeElement), rows = tree.outline(), at = rows.findIndex(row => row.current);
  const first = Math.max(0, Math.min(at - MOST_ROWS / 2, rows.length - MOST_ROWS));
  get('outline').replaceChildren(...rows.slice(first, first + MOST_ROWS).map(row => makeRow(row, onGo)));
  const current = get('outline').querySelector('li:has([aria-current])'), list = get('outline');
  if (hadFocus) current?.firstElementChild.focus({preventScroll: true});
  if (current) list.scrollTop = current.offsetTop - list.offsetTop - list.clientHeight / 2;
}

function makeRow(row, onGo) {
  const who = make('span', {class: `who ${row.kind}`}, KINDS[row.kind]);
  const button = make('button', {type: 'button'}, who, ' ', make('bdi', {lang: ''}, row.label));
  if (row.current) button.setAttribute('aria-current', 'true');
  button.addEventListener('click', () => onGo(row.id));
  return make('li', {class: `d${Math.min(row.depth, MOST_DEPTH)}${row.onPath ? ' way' : ''}`}, button);
}

/** Back, forward, and "version 2 of 3". */
function showVersions(tree) {
  get('back').disabled = !tree.canGoBack();
  get('forward').disabled = !tree.canGoForward();
  const all = tree.siblings(), at = all.indexOf(tree.current);
  get('versions').hidden = all.length < 2;
  get('version').textContent = `${at + 1} of ${all.length}`;
  get('previous').disabled = at === 0;
  get('following').disabled = at === all.length - 1;
}
