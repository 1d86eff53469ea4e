// The line to share of a quiz, shown when all is answered, with a button that copies it. Nothing leaves the page.
const share = document.querySelector('.share'), shared = share.querySelector('.line'), copying = share.querySelector('button');
const shares = [...document.querySelectorAll('.shares li')];  // the line for each number of right answers

copying.onclick = async () => {
  let copied = true;
  try {
    await navigator.clipboard.writeText(shared.textContent);
  } catch {  // as in a page that was opened from a disk, in some browsers
    getSelection().selectAllChildren(shared);
    copied = document.execCommand('copy');
  }
  copying.textContent = copied ? 'Copied' : 'Now press Ctrl+C';
};

function offer(nRight) {
  shared.textContent = shares[nRight].textContent;
  copying.textContent = 'Copy this line';
  share.hidden = false;
}
