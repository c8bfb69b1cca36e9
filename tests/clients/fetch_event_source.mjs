import { fetchEventSource } from "@microsoft/fetch-event-source";

export async function follow(url, onEvent) {
  let cursor = "0";
  for (let isOver = false; !isOver; ) {
    const reading = fetchEventSource(url, {
      headers: { "Last-Event-ID": cursor },
      openWhenHidden: true,
      async onopen(response) {
        isOver = response.status !== 200; // 204: everything was read
      },
      onmessage(event) {
        onEvent(event);
        cursor = event.id;
      },
      onerror(error) {
        throw error; // its own retry would begin behind an event of which only the id came
      },
    });
    await reading.catch(() => {}); // the connection broke, not the run
    if (!isOver) await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
