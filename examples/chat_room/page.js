const [log, status, people, form, name, text, problem] =
  ["log", "status", "people", "form", "name", "text", "problem"].map((id) => document.getElementById(id));

const MOST_SHOWN = 1000;
let source = null;
let last = -1;
// The first message this person has not read, and how many there are; until that was shown.
let news = null;
let told = -1;

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
    if (offset <= last) {
      log.replaceChildren();
      told = -1;
    }
    last = offset;
    if (news !== null && offset >= news.next) {
      log.append(element("p", "news", news.unread + " new since you were here"));
      news = null;
    }
    show(new Date(Number(millis)), who, lines.join("\n"));
    soon();
  };
}

// What was shown to somebody who looks is read. Who has a name has that noted, and the next visit,
// in this browser or another, begins there.
let planned;
function soon() {
  planned ??= setTimeout(note, 300);
}

async function note() {
  planned = clearTimeout(planned);
  const who = name.value.trim();
  if (!document.hidden && who !== "" && told < last) {
    const upTo = last;
    if ((await post("/read", who + "\n" + upTo)) === "") told = upTo;
  }
  await count();
}

// Shows who was here and what they have not read, and returns what that is for this person.
async function count() {
  try {
    const answer = await fetch("/people");
    if (!answer.ok) return;
    const lines = (await answer.text()).split("\n").slice(0, -1);
    const all = lines.map((line) => {
      const [next, unread, ...who] = line.split(" ");
      return { next: Number(next), unread: Number(unread), who: who.join(" ") };
    });
    people.replaceChildren(...all.map(({ who, unread }) => {
      const one = element("li", "", who);
      if (unread > 0) one.append(element("b", "", unread));
      return one;
    }));
    const mine = all.find(({ who }) => who === name.value.trim());
    document.title = (mine?.unread > 0 ? "(" + mine.unread + ") " : "") + "Chat room";
    return mine;
  } catch {
    // Nobody answers; the stream says so.
  }
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

// Sends something, and returns what went wrong.
async function post(path, body) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "text/plain" }, body });
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
  problem.textContent = await post("/say", name.value + "\n" + said);
  if (problem.textContent !== "" && text.value === "") text.value = said;
  text.focus();
});

// A browser keeps few connections to one address, six as a rule, and each stream holds one. A tab
// that nobody looks at lets go after a while, and catches up when somebody does.
let letGo;
document.addEventListener("visibilitychange", () => {
  clearTimeout(letGo);
  if (document.hidden) {
    letGo = setTimeout(() => { source?.close(); source = null; tell("asleep"); }, 30000);
  } else {
    if (source === null) listen();
    soon();
  }
});

// The browser keeps who you are, so that it is you who comes back.
name.value = localStorage.getItem("name") ?? "";
name.addEventListener("change", () => {
  localStorage.setItem("name", name.value.trim());
  told = -1;
  soon();
});

const mine = await count();
if (mine?.unread > 0) news = mine;
if (source === null) listen();
setInterval(count, 5000);
