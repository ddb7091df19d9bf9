// Tabs of a page: the first is open, arrow keys go from one to the next.
function setUpTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const open = (wanted) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", tab === wanted);
      tab.tabIndex = tab === wanted ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = tab !== wanted;
    }
  };
  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      const to = tabs[(k + by + tabs.length) % tabs.length];
      open(to);
      to.focus();
    });
  });
  open(tabs[0]);
}
