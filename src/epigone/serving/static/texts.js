// The texts that are kept in this browser, each with its history, and what is done where there is no more room.

import {Tree} from './tree.js';

const INDEX = 'epigone:texts', PREFIX = 'epigone:text:';
/** Of one text with its history; a browser keeps about 5 million characters for all texts of a site. */
const MOST_CHARACTERS = 1_500_000, MOST_TEXTS = 200;

/** @typedef {{id: string, title: string, name: string, time: number}} Entry `title`: empty where `name` is the beginning of the text. */

/** There was no room for a text, or it could not be read. */
export class StorageError extends Error {}

export class Texts {
  /** @param {Storage} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** The texts, the one written last first. @returns {Entry[]} */
  list() {
    const entries = parse(this.read(INDEX));
    return Array.isArray(entries) ? entries.filter(isEntry).sort((one, other) => other.time - one.time) : [];
  }

  read(key) {
    try {
      return this.storage.getItem(key);
    } catch {
      return null;
    }
  }

  /** @returns {Tree|null} */
  load(id) {
    try {
      return Tree.unpack(parse(this.read(PREFIX + id))?.tree);
    } catch {
      return null;
    }
  }

  /** How often a text was saved, by which another window's change is noticed. */
  version(id) { return parse(this.read(PREFIX + id))?.version ?? 0; }

  /** Keep a text; where it is too long with its history, without parts of that. Raises StorageError. */
  save(id, title, tree, version) {
    for (const value of shrink(tree)) {
      const data = JSON.stringify({version, tree: value});
      if (data.length <= MOST_CHARACTERS && this.write(PREFIX + id, data)) {
        const name = nameText(title, tree.text());
        this.writeIndex([{id, title, name, time: Date.now()}, ...this.list().filter(entry => entry.id !== id)].slice(0, MOST_TEXTS));
        return;
      }
    }
    throw new StorageError('This browser has no more room for this text. Export it to a file, or delete older texts.');
  }

  remove(id) {
    this.storage.removeItem(PREFIX + id);
    this.writeIndex(this.list().filter(entry => entry.id !== id));
  }

  writeIndex(entries) {
    if (!this.write(INDEX, JSON.stringify(entries))) throw new StorageError('This browser keeps no texts. Export what you want to keep.');
  }

  write(key, value) {
    try {
      this.storage.setItem(key, value);
      return true;
    } catch {
      return false;
    }
  }
}

/** The tree with ever less of its history. */
function* shrink(tree) {
  yield tree.pack('all');
  yield tree.pack('path');
  yield tree.pack('none');
  const path = Tree.unpack(tree.pack('none'));
  path.keepPath();
  yield path.pack('none');
  yield new Tree(tree.text()).pack();
}

/** A new name under which a text is kept. */
export function makeId() { return Date.now().toString(36) + Math.random().toString(36).slice(2, 8); }

/** What a text is called: its title, or its first words. @param {string} title @param {string} text */
export function nameText(title, text) {
  return title || [...text.trim().split('\n')[0]].slice(0, 40).join('') || 'Untitled';
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isEntry(entry) {
  const isNamed = entry && [entry.id, entry.title, entry.name].every(name => typeof name === 'string');
  return isNamed && Number.isFinite(entry.time);
}
