// Keeps the screen on while files move, where the browser lets a page do so.
//
// Over plain HTTP there is no wake lock. A video that plays, of a blank picture and without a sound, does the same there.

let lock = null, video = null;
let isWanted = false, isNeeded = false;

/** The person wants it, or not any more. */
export function want(wanted) {
  isWanted = wanted;
  return settle();
}

/** Files move, or none do. */
export function need(needed) {
  if (isNeeded === needed) return;
  isNeeded = needed;
  settle();
}

/** Whether the screen is kept on now. */
export const isOn = () => Boolean(lock && !lock.released) || Boolean(video && !video.paused);

// The browser takes the lock away with the page's visibility.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) settle();
});

async function settle() {
  const isDue = isWanted && isNeeded;
  try {
    if (!isDue) await release();
    else if (navigator.wakeLock) {
      if (!lock || lock.released) lock = await navigator.wakeLock.request("screen");
    } else await (video ??= blank()).play();
  } catch {
    // It is refused in a hidden page, and without a touch in some browsers; the next change tries again.
  }
}

async function release() {
  await lock?.release();
  lock = null;
  video?.pause();
}

function blank() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 2;
  const picture = canvas.getContext("2d");
  const made = document.createElement("video");
  made.muted = made.playsInline = true;
  made.className = "hidden";
  made.setAttribute("aria-hidden", "true");
  made.srcObject = canvas.captureStream(1);
  // A picture that never changes is no video to some browsers.
  setInterval(() => picture.fillRect(0, 0, 2, 2), 1000);
  document.body.append(made);
  return made;
}
