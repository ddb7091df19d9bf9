// Tabs of a page: the first is open at the start, arrow keys move between them.
let tabOpened = () => {};

function openTab(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const open = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", open);
    tab.tabIndex = open ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !open;
  }
  tabOpened(name);
}

/** Set up the tabs that are not hidden; calls `opened` with the name of each tab that opens. */
function setUpTabs(opened = () => {}) {
  tabOpened = opened;
  const tabs = [...document.querySelectorAll("[role=tab]")].filter((tab) => !tab.hidden);
  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => openTab(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      const to = tabs[(k + by + tabs.length) % tabs.length];
      to.click();
      to.focus();
    });
  });
  document.querySelector(".tabs").hidden = false;
  tabs[0].click();
}
