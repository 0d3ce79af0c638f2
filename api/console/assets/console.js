// Every function works without this; it only saves steps.

// Leave a page that shows a secret only once it is stored.
const reveal = document.querySelector("[data-reveal]");
if (reveal) {
  const stored = reveal.querySelector("[data-stored]");
  let isLeaving = false;
  addEventListener("beforeunload", (event) => {
    if (!stored.checked && !isLeaving) event.preventDefault();
  });
  stored.form.addEventListener("submit", () => { isLeaving = true; });
  // A page that comes back from the browser's memory has nothing to show any more.
  addEventListener("pagehide", () => {
    for (const secret of reveal.querySelectorAll("[data-secret]")) secret.textContent = "shown once";
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  const said = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = said; }, 2000);
  });
}

// A dialog opens in place instead of by its address.
for (const link of document.querySelectorAll("a[data-dialog]")) {
  const dialog = document.querySelector(link.hash);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.showModal();
  });
  for (const close of dialog.querySelectorAll("[data-close]")) {
    close.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
      link.focus();
    });
  }
  // A mistake is told in its dialog, which the page has opened without a backdrop.
  if (dialog.open) {
    dialog.close();
    dialog.showModal();
  }
}

// How many rows are chosen.
const chosen = document.querySelector("[data-chosen]");
if (chosen) {
  const boxes = [...chosen.form.querySelectorAll("input[name=ids]")];
  const count = () => {
    const marked = boxes.filter((box) => box.checked).length;
    chosen.disabled = !marked;
    chosen.textContent = marked ? `Revoke ${marked} chosen…` : "Revoke the chosen…";
  };
  for (const box of boxes) box.addEventListener("change", count);
  addEventListener("pageshow", count);
  count();
}

// A form is sent once.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// A page that waits looks again by itself, while somebody looks at it and uses nothing on it.
if (document.querySelector("[data-waits]")) {
  setInterval(() => {
    if (!document.hidden && document.activeElement === document.body) location.reload();
  }, 5000);
}
