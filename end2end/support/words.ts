// The shapes that tests look at; crates/protocol has them all.
export type State = 'unloaded' | 'waiting' | 'loading' | 'ready' | 'draining' | 'unloading' | 'failed' | 'stuck';

export interface Instance {
  pid: number;
  epoch: number;
  context: number;
  memory: { private_bytes: number; mapped_bytes: number; quality: string } | null;
}

export interface Model {
  id: string;
  kind: 'chat' | 'embedding';
  state: State;
  pinned: boolean;
  in_flight: number;
  queued: number;
  idle_timeout_seconds: number | null;
  unload_at: string | null;
  reserve_bytes: number | null;
  instances: Instance[];
  failure: { code: string; message: string; hint: string } | null;
}

export interface Receipt {
  id: number;
  model: string;
  pid: number | null;
  reason: string;
  asked_by: string;
  at: string;
  duration_ms: number;
  verdict: 'returned' | 'residual' | 'stuck' | 'not_loaded';
  ram: { held_bytes: number; returned_bytes: number; residual_bytes: number };
  cut_off_requests: number;
}

export interface Session {
  id: string;
  kind: string;
  label: string;
  model: string | null;
  held_bytes: number;
  requests: number;
  last_used_at: string;
  ends_at: string | null;
  kept_by: string;
}

export interface Snapshot {
  sequence: number;
  server: { version: string; pid: number; state: string; private_bytes: number | null; spare: { pid: number; private_bytes: number } | null };
  books: { device: string; server_bytes: number; models_bytes: number | null }[];
  models: Model[];
  receipts: Receipt[];
  sessions: Session[];
  requests: { id: string; model: string; state: string }[];
}
