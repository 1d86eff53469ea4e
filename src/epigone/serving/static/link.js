// A link that makes the same continuations again: model, prompt, seed and settings in the part of the address after #,
// which a browser never sends to a server.

/** Longer prompts are left out. */
export const LONGEST_PROMPT = 2000;
const NAMES = {
  model: 'm', prompt: 'p', seed: 's', temperature: 't', length: 'n', stopAt: 'e', guidance: 'g', mix: 'v', share: 'vs',
  maxCopy: 'c', words: 'w',
};
const NUMBERS = new Set(['seed', 'temperature', 'length', 'guidance', 'share']);

/** @param {Record<string, unknown>} values @returns {string} what stands after # */
export function makeFragment(values) {
  const query = new URLSearchParams();
  for (const [name, short] of Object.entries(NAMES)) {
    const value = values[name];
    const isGiven = value !== undefined && value !== null && value !== '';
    if (isGiven && !(name === 'prompt' && value.length > LONGEST_PROMPT)) query.set(short, String(value));
  }
  return query.toString();
}

/** What a link asks for; null for none. What is no number where there has to be one is left out. @param {string} fragment */
export function readFragment(fragment) {
  const query = new URLSearchParams(fragment.replace(/^#/, '')), found = {};
  for (const [name, short] of Object.entries(NAMES)) {
    if (!query.has(short)) continue;
    const value = query.get(short).slice(0, LONGEST_PROMPT);
    if (!NUMBERS.has(name)) found[name] = value;
    else if (value.trim() && Number.isFinite(Number(value))) found[name] = Number(value);
  }
  return Object.keys(found).length ? found : null;
}
