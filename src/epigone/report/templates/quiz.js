// Counts the answers of a quiz. Without it the page still shows the passages, and behind each who wrote it.
const questions = [...document.querySelectorAll('.question')], result = document.querySelector('.result');
const outcomes = [...document.querySelectorAll('.outcomes li')];  // what to say for each number of right answers
const answers = new Map();

function show() {
  if (answers.size < questions.length) {
    result.textContent = answers.size + ' of ' + questions.length + ' answered';
    return;
  }
  offer(questions.filter(question => answers.get(question) === question.dataset.is).length);
  const wrong = questions.flatMap((question, i) => answers.get(question) === question.dataset.is ? [] : [i + 1]);
  const outcome = outcomes[questions.length - wrong.length].textContent;
  result.textContent = outcome + (wrong.length ? ' Wrong: ' + wrong.join(', ') + '.' : '');
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
