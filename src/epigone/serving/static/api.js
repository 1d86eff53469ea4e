// Requests to the server: JSON, streams of events, errors as sentences, and another try where it is busy.

const MOST_TRIES = 5, LONGEST_WAIT = 30;

/** What went wrong, in a sentence. `status` is 0 where the server could not be reached. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** @typedef {{signal?: AbortSignal, onWait?: (seconds: number) => void}} Options `onWait`: it is busy, and asked again then. */

/** The JSON that the server answers with. `body` makes it a POST. @param {string} path @param {Options} options */
export async function ask(path, body = undefined, options = {}) {
  const response = await send(path, body, options);
  try {
    return await response.json();
  } catch (error) {
    throw explain(error, options.signal);
  }
}

/** The objects of a stream of events. @param {string} path @param {Options} options */
export async function* stream(path, body, options = {}) {
  const response = await send(path, body, options), reader = response.body.getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) throw new ServerError('The server broke off in the middle of its answer.');
      for (const data of parser.push(value)) {
        if (data === '[DONE]') return;
        const event = JSON.parse(data);
        if (event.error) throw new ServerError(event.error.message ?? 'The server could not go on.', 500);
        yield event;
      }
    }
  } catch (error) {
    throw explain(error, options.signal);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Takes the bytes of server-sent events and gives their data. */
export class EventParser {
  constructor() {
    this.decoder = new TextDecoder();
    this.rest = '';
  }

  /** @param {Uint8Array} bytes @returns {string[]} the data of each event that is complete */
  push(bytes) {
    const events = (this.rest + this.decoder.decode(bytes, {stream: true})).split(/\r?\n\r?\n/);
    this.rest = events.pop();
    return events.map(readData).filter(data => data !== null);
  }
}

function readData(event) {
  const lines = event.split(/\r?\n/).filter(line => line.startsWith('data:'));
  return lines.length ? lines.map(line => line.slice(5).replace(/^ /, '')).join('\n') : null;
}

async function send(path, body, options) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await sendOnce(path, body, options.signal);
    if (response.ok) return response;
    const after = Number(response.headers.get('Retry-After'));
    if (!(response.status === 429 || response.status === 503) || !(after > 0) || attempt >= MOST_TRIES) {
      throw await readError(response);
    }
    const seconds = Math.min(after, LONGEST_WAIT);
    options.onWait?.(seconds);
    await pause(1000 * seconds, options.signal);
  }
}

async function sendOnce(path, body, signal) {
  const post = {method: 'POST', headers: {'Content-Type': 'application/json'}, body: encode(body)};
  try {
    return await fetch(path, {...(body === undefined ? {} : post), signal, cache: 'no-store'});
  } catch (error) {
    throw explain(error, signal);
  }
}

/** JSON without halves of characters, which no server could encode. */
function encode(body) {
  return JSON.stringify(body, (_name, value) => typeof value === 'string' && value.toWellFormed ? value.toWellFormed() : value);
}

async function readError(response) {
  let message = '';
  try {
    message = (await response.json()).error.message;
  } catch { /* it is no JSON of ours: the sentence below will do */ }
  return new ServerError(String(message || `The server answered with error ${response.status}.`), response.status);
}

function explain(error, signal) {
  if (error instanceof ServerError || signal?.aborted || error.name === 'AbortError') return error;
  return new ServerError('The server does not answer. Is epigone serve still running?');
}

/** @param {number} milliseconds @param {AbortSignal} [signal] */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, {once: true});
  });
}
