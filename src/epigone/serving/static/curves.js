// Losses over the passes over a text, drawn as SVG.

const NS = 'http://www.w3.org/2000/svg';
const LEFT = 44, RIGHT = 12, TOP = 26, BOTTOM = 36;

/** @typedef {{x: number, y: number}} Point @typedef {{name: string, kind: string, points: Point[]}} Line */

/** About so many round numbers from low to high. */
export function findTicks(low, high, about = 5) {
  const rough = (high - low || 1) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/**
 * A drawing of lines with axes.
 * @param {Line[]} lines @param {{summary: string, best: Point|null, width: number}} about @returns {SVGElement}
 */
export function drawCurves(lines, {summary, best, width}) {
  const height = Math.round(Math.max(220, Math.min(320, width / 2)));
  const points = lines.flatMap(line => line.points), range = pick => [Math.min(...points.map(pick)), Math.max(...points.map(pick))];
  const [x0, x1] = range(point => point.x), [low, high] = range(point => point.y);
  const space = 0.06 * (high - low || 1), y0 = low - space, y1 = high + space;
  const x = value => LEFT + (value - x0) / (x1 - x0 || 1) * (width - LEFT - RIGHT);
  const y = value => TOP + (y1 - value) / (y1 - y0) * (height - TOP - BOTTOM);
  const svg = element('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': summary});
  for (const tick of findTicks(y0, y1)) {
    svg.append(element('line', {class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick)}));
    svg.append(text(LEFT - 6, y(tick) + 4, String(tick), 'end'));
  }
  for (const tick of findTicks(x0, x1, 6)) svg.append(text(x(tick), height - BOTTOM + 18, String(tick), 'middle'));
  svg.append(text(width - RIGHT, height - 4, 'passes over the text', 'end'));
  for (const line of lines.filter(one => one.points.length)) {
    const places = line.points.map(point => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(' ');
    svg.append(element('polyline', {class: `curve ${line.kind}`, points: places}));
    const dots = line.points.length < 40 ? line.points : [];
    svg.append(...dots.map(point => element('circle', {class: line.kind, cx: x(point.x), cy: y(point.y), r: 2.5})));
  }
  if (best) svg.append(element('circle', {class: 'best', cx: x(best.x), cy: y(best.y), r: 6}));
  svg.append(...drawNames(lines));
  return svg;
}

/** Their names, above the drawing, each in its colour. */
function drawNames(lines) {
  let left = LEFT;
  return lines.filter(line => line.points.length).map(line => {
    const name = text(left, 14, line.name, 'start', line.kind);
    left += 9 * line.name.length + 16;
    return name;
  });
}

function element(name, attributes) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function text(x, y, words, anchor, kind = '') {
  const made = element('text', {x, y, 'text-anchor': anchor, class: kind});
  made.textContent = words;
  return made;
}
