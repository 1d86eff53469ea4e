// Elements of the page. Text that comes from models, runs and files is only ever put in as text.

/** @param {string} id @returns {any} */
export function get(id) { return document.getElementById(id); }

/**
 * An element. Children that are strings become text.
 * @param {string} tag @param {Record<string, unknown>} [properties] `class`, `aria-…`, `role`, `data-…`: attributes; others: properties
 * @param {Array<Node|string>} children
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(class|role|dir|lang|for|aria-.*|data-.*)$/.test(name)) element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A name without signs that are invisible, or change the direction of what is around it. @param {unknown} name */
export function tame(name) {
  return String(name).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '').slice(0, 120) || '(no name)';
}

/** Put a text on the clipboard; whether it is there. Pages by http from another machine may not. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

let timer = 0;
/** Tell it to a screen reader, when it has said what it is saying. @param {string} words */
export function say(words) {
  clearTimeout(timer);
  get('said').textContent = '';
  timer = setTimeout(() => { get('said').textContent = words; }, 100);
}

/** Show what went wrong, until it is closed or `clearProblem` is called with the same kind. @param {unknown} error */
export function showProblem(error, kind = 'error') {
  if (error?.name === 'AbortError') return;
  const box = get('problem');
  box.dataset.kind = kind;
  box.hidden = false;
  box.firstElementChild.textContent = error instanceof Error ? error.message : String(error);
}

export function clearProblem(kind = 'error') {
  const box = get('problem');
  if (box.dataset.kind === kind) box.hidden = true;
}

/** Fill a list of choices, and keep what was chosen if it is still there. */
export function fillSelect(select, options, chosen = select.value) {
  const signature = JSON.stringify(options);
  if (select.dataset.options !== signature) {  // a list that is open stays so where nothing has changed
    select.replaceChildren(...options.map(([value, text, disabled = false]) => make('option', {value, disabled}, text)));
    select.dataset.options = signature;
  }
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

/** Call it once, some time after the last of several calls. @param {() => void} work @param {number} milliseconds */
export function later(work, milliseconds) {
  let waiting = 0;
  const call = () => { clearTimeout(waiting); waiting = setTimeout(() => { waiting = 0; work(); }, milliseconds); };
  call.now = () => { if (waiting) { clearTimeout(waiting); waiting = 0; work(); } };
  return call;
}

/** A whole number of seconds in words. @param {number} seconds */
export function sayDuration(seconds) {
  if (seconds < 60) return count(Math.max(1, Math.round(seconds)), 'second');
  if (seconds < 3600) return count(Math.round(seconds / 60), 'minute');
  return `${(seconds / 3600).toFixed(1)} hours`;
}

/** @param {number} number @param {string} noun */
export function count(number, noun) {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}
