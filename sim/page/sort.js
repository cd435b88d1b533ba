"use strict";
// Tables that sort by a heading.
for (const table of document.querySelectorAll("table.sorts")) {
  const headings = [...table.tHead.rows[0].cells];
  const sort = (heading, column) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    const rows = [...table.tBodies[0].rows].sort((a, b) =>
      down ? compare(key(b), key(a)) : compare(key(a), key(b)));
    table.tBodies[0].append(...rows);
  };
  headings.forEach((heading, column) =>
    heading.querySelector("button")?.addEventListener("click", () => sort(heading, column)));
}
