// Texts as files: plain text, Markdown, and JSON with the whole history, which can be read again.

import {Tree} from './tree.js';

const LARGEST_FILE = 20_000_000, FORMAT = 'epigone-text', VERSION = 1;

/** @typedef {{title: string, tree: Tree}} Titled */

/** @param {'txt'|'md'|'json'} kind @param {Titled} text @returns {{name: string, type: string, data: string}} */
export function exportText(kind, {title, tree}) {
  const name = `${title.replace(/[^\p{L}\p{N} _-]+/gu, '').trim().slice(0, 60) || 'text'}.${kind}`;
  if (kind === 'json') {
    const data = JSON.stringify({format: FORMAT, version: VERSION, title, text: tree.text(), tree: tree.pack()});
    return {name, type: 'application/json', data};
  }
  if (kind === 'md') return {name, type: 'text/markdown', data: writeMarkdown(title, tree)};
  return {name, type: 'text/plain', data: tree.text()};
}

/** Lines stay lines, and what the text has of Markdown's signs is shown as it is. */
function writeMarkdown(title, tree) {
  const escape = text => text.replace(/[\\`*_[\]<>#|~]/g, '\\$&').replace(/^(\s*\d*)([-+=.)])(?=\s|$)/gm, '$1\\$2');
  const body = escape(tree.text()).replace(/(?<!\n)\n(?!\n)/g, '  \n');
  const origins = tree.path().map(id => tree.states.get(id).origin).filter(Boolean);
  const models = [...new Set(origins.map(origin => origin.model))];
  const note = models.length ? `\n\n---\n\nWritten with ${models.map(escape).join(', ')} (epigone).\n` : '\n';
  return `# ${escape(title)}\n\n${body}${note}`;
}

/** A text from a file that this page has written. Raises TypeError. @param {string} data @returns {Titled} */
export function importText(data) {
  if (data.length > LARGEST_FILE) throw new TypeError('This file is too large.');
  let value;
  try {
    value = JSON.parse(data);
  } catch {
    throw new TypeError('This file is not JSON that this page has exported.');
  }
  if (value?.format !== FORMAT) throw new TypeError('This file is not a text that this page has exported.');
  if (value.version > VERSION) throw new TypeError('This file is of a later version of epigone.');
  return {title: String(value.title ?? '').slice(0, 200), tree: Tree.unpack(value.tree)};
}
