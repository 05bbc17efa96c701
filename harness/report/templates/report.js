/* A link to a cell opens it.  Without this the reader does. */
(function () {
  function open() {
    var id = "";
    try { id = decodeURIComponent(location.hash.slice(1)); } catch (e) { return; }
    var found = id && document.getElementById(id);
    if (!found || found.tagName !== "DETAILS") return;
    found.open = true;
    found.scrollIntoView();
    found.querySelector("summary").focus({ preventScroll: true });
  }
  addEventListener("hashchange", open);
  document.addEventListener("click", function (event) {
    var link = event.target.closest && event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) setTimeout(open);
  });
  open();
})();
