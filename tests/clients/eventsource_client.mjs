import { createEventSource } from "eventsource-client";

export async function follow(url, onEvent) {
  for await (const event of createEventSource({ url })) onEvent(event);
}
