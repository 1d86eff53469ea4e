// GPT-2 with weights of 8 bits, read token by token. Everything but the products with matrices is plain JavaScript.
// All numbers are the same in every browser: sums have a fixed order, and exp is computed here.

const PAGE = 65536, SLACK = 64;

// e^x for x <= 700, to 1e-12: by powers of two and a series. Math.exp differs between browsers in its last bit.
const POWERS = new Float64Array(2200);
POWERS[1100] = 1;
for (let i = 1; i < 1024; i += 1) POWERS[1100 + i] = 2 * POWERS[1099 + i];
for (let i = 1; i <= 1100; i += 1) POWERS[1100 - i] = POWERS[1101 - i] / 2;
const SERIES = [1];
for (let n = 1; n <= 11; n += 1) SERIES.unshift(SERIES[0] / n);  // 1 / n!, the last ones first
export function exp(x) {
  if (x < -700) return 0;
  const power = Math.round(x * 1.4426950408889634), rest = x - power * 0.6931471805599453;
  let sum = SERIES[0];
  for (let n = 1; n < SERIES.length; n += 1) sum = sum * rest + SERIES[n];
  return sum * POWERS[1100 + power];
}

// GELU in its tanh form, GPT-2's own
function gelu(x) {
  const inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  if (inner > 20) return x;
  if (inner < -20) return 0;
  return x * (1 - 1 / (1 + exp(2 * inner)));
}

// What multiply.wat does, for browsers without it: the same sums in the same order, so the same bits.
export function makeMultiply(buffer) {
  const bytes = new Int8Array(buffer), floats = new Float32Array(buffer), round = Math.fround;
  return (w, scale, bias, x, y, n, rows) => {
    const [s, b, from, to] = [scale / 4, bias / 4, x / 4, y / 4];
    for (let row = 0; row < rows; row += 1) {
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0;
      const start = w + row * n;
      for (let i = 0; i < n; i += 4) {
        a0 = round(a0 + round(bytes[start + i] * floats[from + i]));
        a1 = round(a1 + round(bytes[start + i + 1] * floats[from + i + 1]));
        a2 = round(a2 + round(bytes[start + i + 2] * floats[from + i + 2]));
        a3 = round(a3 + round(bytes[start + i + 3] * floats[from + i + 3]));
      }
      floats[to + row] = round(round(round(round(a0 + a2) + round(a1 + a3)) * floats[s + row]) + floats[b + row]);
    }
  };
}

const roundUp = (n, to) => Math.ceil(n / to) * to;

export class Model {
  // shape: sizes, as in the header; kernel: multiply.wat as a module, or null. The weights are put into `weights` before
  // the first token is read.
  constructor(shape, nBytes, kernel = null) {
    Object.assign(this, shape);
    const {width, inner, nLayer, nPositions, nVocabulary} = shape, wide = roundUp(width, 8), wideInner = roundUp(inner, 8);
    const sizes = {x: wide, normed: wide, heads: wide, qkv: 3 * width, out: width, hidden: wideInner, logits: nVocabulary,
      zeros: Math.max(width, inner, 3 * width, nVocabulary)};
    const nFloats = Object.values(sizes).reduce((sum, size) => sum + roundUp(size + 8, 4), 0);
    const activations = roundUp(nBytes, 16), total = activations + 4 * nFloats + 4 * wideInner + SLACK;
    let buffer;
    if (kernel) {
      const memory = new WebAssembly.Memory({initial: Math.ceil(total / PAGE)});
      this.multiply = new WebAssembly.Instance(kernel, {page: {memory}}).exports.multiply;
      buffer = memory.buffer;
    } else {
      buffer = new ArrayBuffer(roundUp(total, PAGE));
      this.multiply = makeMultiply(buffer);
    }
    this.isFast = Boolean(kernel);
    this.weights = new Uint8Array(buffer, 0, nBytes);
    this.bytes = new Int8Array(buffer);
    this.floats = new Float32Array(buffer);
    let at = activations;
    for (const [name, size] of Object.entries(sizes)) {
      this[name] = {at, values: new Float32Array(buffer, at, size)};
      at += 4 * roundUp(size + 8, 4);
    }
    this.place(wide, wideInner);
    this.keys = Array.from({length: nLayer}, () => new Float32Array(nPositions * width));
    this.values = Array.from({length: nLayer}, () => new Float32Array(nPositions * width));
    this.scores = new Float64Array(nPositions);
    this.nRead = 0;
  }

  // where each tensor is: first all integers, then all numbers, in the order in which offline_page.py packs them
  place(wide, wideInner) {
    const {width, inner, nLayer, nPositions, nVocabulary, isTied} = this;
    let at = 0;
    const rows = (n, columns) => ({n, columns, w: (at += n * columns) - n * columns});
    this.wte = rows(nVocabulary, wide);
    this.wpe = rows(nPositions, wide);
    this.layers = Array.from({length: nLayer}, () => ({
      attention: rows(3 * width, wide), project: rows(width, wide), widen: rows(inner, wide), narrow: rows(width, wideInner)}));
    this.head = isTied ? this.wte : rows(nVocabulary, wide);
    at = roundUp(at, 4);
    const numbers = n => (at += 4 * n) - 4 * n;
    const norm = () => ({weight: numbers(width), bias: numbers(width)});
    this.wte.scale = numbers(nVocabulary);
    this.wpe.scale = numbers(nPositions);
    for (const layer of this.layers) {
      layer.first = norm();
      layer.second = norm();
      for (const name of ['attention', 'project', 'widen', 'narrow']) {
        layer[name].scale = numbers(layer[name].n);
        layer[name].bias = numbers(layer[name].n);
      }
    }
    this.norm = norm();
    if (!isTied) this.head.scale = numbers(nVocabulary);
    this.head.bias = this.zeros.at;
    this.end = at;
  }

  // reads a token at the next position; with `predict` the logits of what follows are in this.logits.values
  read(token, predict = true) {
    const {width, floats, bytes, wte, wpe, x} = this, position = this.nRead;
    const tokenScale = floats[wte.scale / 4 + token], positionScale = floats[wpe.scale / 4 + position];
    const t = wte.w + token * wte.columns, p = wpe.w + position * wpe.columns;
    for (let i = 0; i < width; i += 1) x.values[i] = bytes[t + i] * tokenScale + bytes[p + i] * positionScale;
    this.layers.forEach((layer, number) => this.readLayer(layer, number, position));
    this.nRead += 1;
    if (!predict) return;
    this.normalise(this.norm);
    this.apply(this.head, this.normed, this.logits);
  }

  readLayer(layer, number, position) {
    const {width, x, qkv, heads, out, hidden} = this;
    this.normalise(layer.first);
    this.apply(layer.attention, this.normed, qkv);
    this.keys[number].set(qkv.values.subarray(width, 2 * width), position * width);
    this.values[number].set(qkv.values.subarray(2 * width), position * width);
    this.attend(this.keys[number], this.values[number], position);
    this.apply(layer.project, heads, out);
    for (let i = 0; i < width; i += 1) x.values[i] += out.values[i];
    this.normalise(layer.second);
    this.apply(layer.widen, this.normed, hidden);
    for (let i = 0; i < this.inner; i += 1) hidden.values[i] = gelu(hidden.values[i]);
    for (let i = this.inner; i < layer.narrow.columns; i += 1) this.floats[hidden.at / 4 + i] = 0;
    this.apply(layer.narrow, hidden, out);
    for (let i = 0; i < width; i += 1) x.values[i] += out.values[i];
  }

  apply({w, scale, bias, n, columns}, from, to) { this.multiply(w, scale, bias, from.at, to.at, columns, n); }

  normalise({weight, bias}) {
    const {width, floats, epsilon} = this, x = this.x.values, y = this.normed.values;
    let mean = 0, square = 0;
    for (let i = 0; i < width; i += 1) mean += x[i];
    mean /= width;
    for (let i = 0; i < width; i += 1) square += (x[i] - mean) * (x[i] - mean);
    const factor = 1 / Math.sqrt(square / width + epsilon);
    for (let i = 0; i < width; i += 1) y[i] = (x[i] - mean) * factor * floats[weight / 4 + i] + floats[bias / 4 + i];
  }

  attend(keys, values, position) {
    const {width, nHead, scores} = this, size = width / nHead, queries = this.qkv.values, to = this.heads.values;
    const factor = 1 / Math.sqrt(size);
    for (let start = 0; start < width; start += size) {
      let most = -Infinity, sum = 0;
      for (let j = 0; j <= position; j += 1) {
        let score = 0;
        for (let i = start, k = j * width + start; i < start + size; i += 1, k += 1) score += queries[i] * keys[k];
        scores[j] = score * factor;
        most = Math.max(most, scores[j]);
      }
      for (let j = 0; j <= position; j += 1) sum += scores[j] = exp(scores[j] - most);
      to.fill(0, start, start + size);
      for (let j = 0; j <= position; j += 1) {
        const share = scores[j] / sum;
        for (let i = start, k = j * width + start; i < start + size; i += 1, k += 1) to[i] += share * values[k];
      }
    }
  }
}

// A text that grows. Where the context is full, the last half of it is read again, as `epigone write` does.
export class Writer {
  constructor(model) { this.model = model; this.ids = []; this.nUnread = 0; }

  begin(ids) {
    this.ids = [...ids];
    this.restart();
  }

  restart() {
    const {ids, model} = this, half = Math.max(1, Math.floor(model.nPositions / 2));
    model.nRead = 0;
    this.nUnread = ids.length < model.nPositions ? ids.length : half;
  }

  push(id) {
    this.ids.push(id);
    this.nUnread += 1;
    if (this.model.nRead >= this.model.nPositions) this.restart();
  }

  // reads one token; true when the logits of the next are known
  step() {
    if (!this.nUnread) return true;
    this.model.read(this.ids[this.ids.length - this.nUnread], this.nUnread === 1);
    this.nUnread -= 1;
    return this.nUnread === 0;
  }
}
