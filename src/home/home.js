// The chosen URL in every snippet, and a button that copies one.
const urls = document.querySelectorAll('pre b');
const said = document.getElementById('said');

const choose = () => {
  const chosen = document.querySelector('input:checked');
  for (const url of urls) url.textContent = chosen.value;
};

for (const section of document.querySelectorAll('section')) {
  const name = section.querySelector('h3').textContent;
  const button = document.createElement('button');
  button.textContent = 'Copy';
  button.setAttribute('aria-label', `Copy: ${name}`);
  button.addEventListener('click', () => {
    getSelection().selectAllChildren(section.querySelector('pre'));
    // By plain HTTP from another machine there is no navigator.clipboard.
    const done = document.execCommand('copy');
    said.textContent = done ? `Copied: ${name}` : `Selected, to be copied with the keyboard: ${name}`;
    button.textContent = done ? 'Copied' : 'Selected';
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  });
  section.append(button);
}

document.documentElement.className = 'scripted';
// A browser that comes back to the page may have chosen already.
if (!document.querySelector('input:checked')) document.querySelector('input').checked = true;
choose();
addEventListener('change', choose);
addEventListener('pageshow', choose);
