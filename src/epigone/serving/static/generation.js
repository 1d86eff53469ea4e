// Continuations as they come from the server: three at once, each a list of tokens.

import {stream} from './api.js';
import {findTail, readTokens} from './tokens.js';

/** Characters before the cursor that a model reads; far more than it can make use of. */
const MOST_PROMPT = 20_000, N_LIKELIEST = 10;

/**
 * @typedef {{index: number, tokens: import('./tokens.js').Token[], text: string, reason: string|null, seed: number|null}} Candidate
 * @typedef {{model: string, prompt: string, seed: number, n: number, settings: Record<string, unknown>}} Order
 */

/**
 * What is replaced by a continuation, and the text before it. A space before the cursor belongs to the word that comes:
 * models write a word together with the space before it.
 * @param {string} text @param {{start: number, end: number}} selection
 */
export function findOrder(text, selection) {
  let at = selection.start;
  while (at > 0 && text[at - 1] === ' ') at -= 1;
  return {at, del: selection.end - at, prompt: text.slice(findTail(text.slice(0, at), MOST_PROMPT), at)};
}

export class Generation {
  /** @param {Order} order */
  constructor(order) {
    this.order = order;
    /** @type {Candidate[]} */
    this.candidates = Array.from({length: order.n}, (_, index) => ({index, tokens: [], text: '', reason: null, seed: null}));
    this.stopping = new AbortController();
    this.running = true;
  }

  stop() { this.stopping.abort(); }

  /**
   * @param {(candidate: Candidate, tokens: import('./tokens.js').Token[]) => void} onTokens
   * @param {(seconds: number) => void} [onWait] Raises ServerError.
   */
  async run(onTokens, onWait) {
    const {model, prompt, seed, n, settings} = this.order;
    const body = {model, prompt, seed, n, ...settings, stream: true, logprobs: N_LIKELIEST};
    try {
      for await (const event of stream('/v1/completions', body, {signal: this.stopping.signal, onWait})) {
        for (const choice of event.choices) this.take(choice, onTokens);
      }
    } catch (error) {
      if (!this.stopping.signal.aborted) throw error;
    } finally {
      this.running = false;
    }
  }

  take(choice, onTokens) {
    const candidate = this.candidates[choice.index];
    if (!candidate) return;
    const tokens = readTokens(choice);
    candidate.seed = choice.seed ?? candidate.seed;
    candidate.tokens.push(...tokens);
    candidate.text += tokens.map(token => token.text).join('');
    candidate.reason = choice.finish_reason ?? candidate.reason;
    onTokens(candidate, tokens);
  }
}
