// A chat that goes on until somebody ends it: what unloads, reloads and crashes are tried against.

/** A streamed answer under way. */
export interface Stream {
  /** The first word has come. */
  first: Promise<void>;
  /** Everything that came, once it has ended. Fails when `signal` ends it. */
  whole: Promise<string>;
}

/** Asks for 4,000 tokens whatever the model would say. */
export function endless(url: string, signal?: AbortSignal): Stream {
  let whole: Promise<string> | undefined;
  const first = new Promise<void>((begun, failed) => {
    whole = read(url, signal, begun);
    whole.then(() => failed(new Error('the stream ended before its first word')), failed);
  });
  // A test that aborts on purpose looks at `first` alone.
  first.catch(() => undefined);
  return { first, whole: whole! };
}

async function read(url: string, signal: AbortSignal | undefined, begun: () => void): Promise<string> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'smollm2',
      stream: true,
      max_tokens: 4000,
      ignore_eos: true,
      messages: [{ role: 'user', content: 'Tell a very long story.' }],
    }),
    signal: signal ?? null,
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
    if (/"content":"[^"]/.test(text)) begun();
  }
}
