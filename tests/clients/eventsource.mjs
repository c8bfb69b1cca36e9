import { EventSource } from "eventsource"; // a browser has its own

const KINDS = [
  "RunStarted", "RunContent", "ReasoningContentDelta", "ToolCallStarted", "ToolCallCompleted",
  "ModelRetry", "RunCancelRequested", "RunCompleted", "RunCancelled", "RunError",
];

export function follow(url, onEvent) {
  const source = new EventSource(url);
  for (const kind of KINDS)
    for (const name of [kind, `Team${kind}`]) source.addEventListener(name, onEvent);
  return new Promise((resolve) => {
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) resolve(); // 204: everything was read
    };
  });
}
