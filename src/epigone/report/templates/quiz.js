// Counts the answers of a quiz. Without it the page still shows the passages, and behind each who wrote it.
const questions = [...document.querySelectorAll('.question')], result = document.querySelector('.result');
const z = Number(document.querySelector('main').dataset.z), fewest = Number(document.querySelector('main').dataset.fewest);
const answers = new Map();

// The 95 % interval of a share (Wilson 1927).
function interval(hits, n) {
  const share = hits / n, square = z ** 2, scale = 1 + square / n;
  const middle = (share + square / (2 * n)) / scale;
  const half = z * Math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / scale;
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function verdict(n, low, high) {
  if (n < fewest) return 'Fewer than ' + fewest + ' answers say little.';
  if (low > .5) return 'You could tell them apart.';
  return high < .5 ? 'You told them apart, but took one for the other.' : 'You could not tell them apart.';
}

function show() {
  const n = answers.size;
  if (n < questions.length) { result.textContent = n + ' of ' + questions.length + ' answered'; return; }
  const wrong = questions.flatMap((question, i) => answers.get(question) === question.dataset.is ? [] : [i + 1]);
  const hits = n - wrong.length, [low, high] = interval(hits, n), percent = share => Math.round(100 * share);
  result.textContent = 'Right: ' + hits + ' of ' + n + ', ' + percent(hits / n) + ' % (95 % interval: ' + percent(low)
    + ' to ' + percent(high) + ' %; guessing gives 50 %). ' + verdict(n, low, high)
    + (wrong.length ? ' Wrong: ' + wrong.join(', ') + '.' : '');
  for (const details of document.querySelectorAll('.question details')) { details.hidden = false; details.open = true; }
}

for (const question of questions) {
  question.querySelector('details').hidden = true;
  for (const who of ['author', 'model']) {
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = 'the ' + who; button.setAttribute('aria-pressed', 'false');
    button.onclick = () => {
      if (answers.size === questions.length) return;
      answers.set(question, who);
      question.querySelectorAll('button').forEach(b => b.setAttribute('aria-pressed', String(b === button)));
      show();
    };
    question.append(button);
  }
}
show();
