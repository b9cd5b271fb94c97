"use strict";
for (const box of document.querySelectorAll(".table")) {
  const body = box.querySelector("tbody");
  const heads = [...box.querySelectorAll("th")];
  box.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  const sort = (head) => {
    const column = heads.indexOf(head);
    const order = head.dataset.order === "1" ? -1 : 1;
    for (const other of heads) delete other.dataset.order;
    head.dataset.order = order;
    const key = (row) => row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return order * (numbers ? x - y : x.localeCompare(y));
    };
    body.append(...[...body.rows].sort(compare));
  };
  for (const head of heads) {
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head); });
  }
}
for (const image of document.querySelectorAll("img")) {
  image.addEventListener("click", () => image.classList.toggle("large"));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const image of document.querySelectorAll("img.large")) image.classList.remove("large");
});
