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

// Where there is a choice; a browser that comes back to the page may have made it already.
const choices = document.querySelectorAll('input');
if (choices.length > 1) {
  document.documentElement.className = 'scripted';
  if (!document.querySelector('input:checked')) choices[0].checked = true;
  addEventListener('change', choose);
  addEventListener('pageshow', choose);
}
