import { createEventSource } from "eventsource-client";

export interface RunEvent {
  event: string; // TeamRunStarted, TeamRunContent, …
  seq: number;
  run_id: string;
  created_at: string;
  [own: string]: unknown; // the fields of each event: see below
}

export async function follow(url: string, onEvent: (event: RunEvent) => void): Promise<void> {
  for await (const { data } of createEventSource({ url })) onEvent(JSON.parse(data));
}
