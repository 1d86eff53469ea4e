// Byte-level BPE, as GPT-2's: text to token ids, and ids to bytes.

const PIECES = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+"
  + '|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+', 'gu');  // \s would take U+FEFF in and leave U+0085 out

const SPACE = 0x20;

// GPT-2 writes each byte as a printable character: itself, or the next one from U+0100 on.
export function listByteLetters() {
  const isPrintable = byte => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let next = 0x100;
  return Array.from({length: 256}, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

export class Tokenizer {
  // tokens: by id, null where there is none; added: ids of tokens that are found in a text as they are;
  // merges: pairs of ids, the first ones first
  constructor({tokens, added, hidden}, merges) {
    const letters = listByteLetters(), byteOf = new Map(letters.map((letter, byte) => [letter, byte]));
    const ids = new Map(tokens.map((token, id) => [token, id]));
    this.size = tokens.length;
    this.byteIds = letters.map(letter => ids.get(letter));
    this.bytes = tokens.map((token, id) => {
      if (token === null || hidden.includes(id)) return new Uint8Array();
      return Uint8Array.from([...token].flatMap(c => byteOf.has(c) ? [byteOf.get(c)] : [...new TextEncoder().encode(c)]));
    });
    this.merged = new Map();
    for (let i = 0; i < merges.length; i += 2) {
      const id = ids.get(tokens[merges[i]] + tokens[merges[i + 1]]);
      this.merged.set(merges[i] * this.size + merges[i + 1], {rank: i, id});
    }
    this.added = new Map(added.map(id => [tokens[id], id]));
    const names = [...this.added.keys()].sort((a, b) => b.length - a.length);
    this.addedPattern = names.length
      ? new RegExp(`(${names.map(name => name.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|')})`, 'u') : null;
    this.known = new Map();
  }

  encode(text) {
    const parts = this.addedPattern ? text.split(this.addedPattern) : [text];
    return parts.flatMap(part => this.added.has(part) ? [this.added.get(part)]
      : (part.match(PIECES) ?? []).flatMap(piece => this.encodePiece(piece)));
  }

  // A prompt's ids, and which ids may follow. As words begin with their space, one at the end of a prompt is taken back,
  // and the first token has to begin with it; otherwise null: any may follow.
  encodePrompt(text) {
    const ids = this.encode(text), last = this.bytes[ids.at(-1)] ?? [], spaced = this.bytes.map(bytes => bytes[0] === SPACE);
    if (!text.endsWith(' ') || !last.every(byte => byte === SPACE) || !spaced.includes(true)) return {ids, only: null};
    return {ids: [...ids.slice(0, -1), ...this.encode(' '.repeat(last.length - 1))], only: spaced};
  }

  encodePiece(piece) {
    let ids = this.known.get(piece);
    if (!ids) {
      ids = this.merge([...new TextEncoder().encode(piece)].map(byte => this.byteIds[byte]).filter(id => id !== undefined));
      if (this.known.size > 20000) this.known.clear();
      this.known.set(piece, ids);
    }
    return ids;
  }

  // the pair that was learned first is merged first, of equal ones the left one
  merge(ids) {
    while (ids.length > 1) {
      let best = null, place = -1;
      for (let i = 0; i + 1 < ids.length; i += 1) {
        const found = this.merged.get(ids[i] * this.size + ids[i + 1]);
        if (found && (!best || found.rank < best.rank)) { best = found; place = i; }
      }
      if (!best) break;
      ids.splice(place, 2, best.id);
    }
    return ids;
  }
}

// Texts of tokens that follow one another: a character that is spread over several belongs to the last of them.
export class TextReader {
  constructor(tokenizer) { this.tokenizer = tokenizer; this.decoder = new TextDecoder('utf-8', {ignoreBOM: true}); }
  read(id) { return this.decoder.decode(this.tokenizer.bytes[id], {stream: true}); }
}
