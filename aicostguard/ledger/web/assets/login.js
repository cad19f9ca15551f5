// A link that opens the dashboard carries its code behind the #: no server, log or proxy on the way sees it there.
// It is taken out of the address at once, so that it does not stay in the browser's history either.
const open = () => {
  const code = location.hash.slice(1);
  if (!/^aicgl_[A-Za-z0-9]{20,64}$/.test(code)) return false;
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.getElementById("link");
  form.elements.link.value = code;
  form.hidden = false;
  document.getElementById("ways").hidden = true;
  form.requestSubmit();
  return true;
};

// A link that is pasted where this page is open already changes nothing but what stands behind the #.
addEventListener("hashchange", open);
if (!open()) document.querySelector("#ways input:not([type=hidden])")?.focus();
