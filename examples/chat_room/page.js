const [log, status, form, name, text, problem] =
  ["log", "status", "form", "name", "text", "problem"].map((id) => document.getElementById(id));

const MOST_SHOWN = 1000;
let source = null;
let last = -1;

// The browser comes back by itself when the connection breaks, and says which id it saw last. It
// gives up when it is turned away, as from a full room; then it is for us to say it.
function listen() {
  source = new EventSource(last < 0 ? "/events" : "/events?after=" + last);
  source.onopen = () => {
    tell("live");
    problem.textContent = "";
  };
  source.onerror = () => {
    tell("connecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
  source.onmessage = (event) => {
    const [millis, who, ...lines] = event.data.split("\n");
    const offset = Number(event.lastEventId);
    // Offsets only grow. One that does not is of another room at the same address.
    if (offset <= last) log.replaceChildren();
    last = offset;
    show(new Date(Number(millis)), who, lines.join("\n"));
  };
}

function tell(state) {
  status.textContent = state;
  status.className = state;
}

// Only textContent: what somebody says never becomes markup.
function show(when, who, what) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const message = element("div", who === name.value.trim() ? "message mine" : "message");
  const time = element("time", "", when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = when.toISOString();
  time.title = when.toLocaleString();
  message.append(element("strong", "", who), time, element("p", "", what));
  log.append(message);
  while (log.children.length > MOST_SHOWN) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function element(tag, className, content = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = content;
  return made;
}

// Says something, and returns what went wrong.
async function say(body) {
  try {
    const answer = await fetch("/say", { method: "POST", headers: { "Content-Type": "text/plain" }, body });
    return answer.ok ? "" : "Not sent: " + (await answer.text());
  } catch {
    return "Not sent: nobody answers. Try again.";
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = text.value;
  // Emptied at once, so that a second press of the key does not say it again.
  text.value = "";
  problem.textContent = await say(name.value + "\n" + said);
  if (problem.textContent !== "" && text.value === "") text.value = said;
  text.focus();
});

// A browser keeps few connections to one address, six as a rule, and each stream holds one. A tab
// that nobody looks at lets go after a while, and catches up when somebody does.
let letGo;
document.addEventListener("visibilitychange", () => {
  clearTimeout(letGo);
  if (document.hidden) {
    letGo = setTimeout(() => { source.close(); source = null; tell("asleep"); }, 30000);
  } else if (source === null) {
    listen();
  }
});

listen();
