// Tabs of a page: the first is open, arrow keys go from one to the next.
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

/** Show the tabs that are not hidden; `opened` is called with the name of each that is opened. */
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
