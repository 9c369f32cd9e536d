//! Every word that server and worker say to each other.

use serde::{Deserialize, Serialize};

/// The first message, both ways. A difference in `protocol` or `build`, or a wrong `nonce`, ends the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The build that speaks; both ends are normally one file.
    pub build: String,
    /// Drawn by the server for this spawn, given in the worker's arguments, said back by the worker.
    pub nonce: String,
}

/// What a passed descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRole {
    /// A GGUF file, whole or the part of this index of a split one.
    Gguf {
        /// From 0.
        part: u16,
    },
    /// `model.safetensors`.
    Safetensors,
    /// `config.json`.
    Config,
    /// `tokenizer.json`.
    Tokenizer,
}

/// Which descriptors come with a message, in the order in which they were sent (SCM_RIGHTS, same frame).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// One for each descriptor.
    pub files: Vec<FileRole>,
}

/// Load the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Its name, for whoever looks at the system's list of processes.
    pub model: String,
    /// The files.
    pub files: Vec<FileRole>,
    /// Positions a sequence may have; `None`: what the file says, at most 8192.
    pub context: Option<u32>,
    /// Compute threads.
    pub threads: u32,
}

/// Who speaks in a conversation. Other words than these are kept as the client wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The frame of the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What.
    pub content: String,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// A conversation, rendered by the file's own template.
    Chat(Vec<Turn>),
    /// Text that is continued as it stands.
    Text(String),
}

/// How the next token is chosen and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0: always the likeliest.
    pub temperature: f32,
    /// Only among so many likeliest; 0: no limit.
    pub top_k: u32,
    /// Only among the likeliest that make up this share; 1: no limit.
    pub top_p: f32,
    /// Only among those at least this likely, relative to the likeliest; 0: no limit.
    pub min_p: f32,
    /// Above 1 makes a repeated token less likely; 1: off.
    pub repeat_penalty: f32,
    /// OpenAI's; 0: off.
    pub frequency_penalty: f32,
    /// OpenAI's; 0: off.
    pub presence_penalty: f32,
    /// The same seed and prompt give the same answer.
    pub seed: u64,
    /// At most so many tokens; `None`: as many as the context holds.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer and do not belong to it.
    pub stop: Vec<String>,
    /// Go on after the model's own end token (for benchmarks).
    pub ignore_eos: bool,
}

impl Sampling {
    /// Always the likeliest token, nothing weighed, until the model or the context ends it.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            max_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }
}

/// Make tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The request, unique in this worker's life.
    pub id: u64,
    /// Whose KV cache may be reused; never another's.
    pub session: String,
    /// What to answer.
    pub prompt: Prompt,
    /// How.
    pub sampling: Sampling,
    /// Tokens that may be sent before more credit comes.
    pub credits: u32,
}

/// Make vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    /// The request, unique in this worker's life.
    pub id: u64,
    /// The texts, each giving one vector.
    pub texts: Vec<String>,
}

/// Server to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// First of all.
    Hello(Hello),
    /// What is in these files? Answered by `Facts` or `Error`.
    Inspect(Order),
    /// Become ready. Answered by `Progress`..., then `Ready` or `Error`.
    Load(Load),
    /// Answered by `Started`, `Token`..., then exactly one `Done` or `Error`.
    Generate(Generate),
    /// Answered by exactly one `Embedded` or `Error`.
    Embed(Embed),
    /// So many more tokens may be sent.
    Credit {
        /// For which request.
        id: u64,
        /// How many.
        tokens: u32,
    },
    /// Stop within one prefill chunk or token; still answered by `Done` or `Error`.
    Cancel {
        /// Which request.
        id: u64,
    },
    /// Forget what is kept for this session. Answered by `SessionEnded`.
    EndSession {
        /// Which.
        session: String,
    },
    /// Compute with so many threads from now on.
    Threads {
        /// At least 1.
        n: u32,
    },
    /// Answered by `Pong`.
    Ping {
        /// Said back.
        n: u64,
    },
    /// Leave at once, without destructors.
    Shutdown,
}

/// What a load does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Header, counts, checks.
    Header,
    /// Vocabulary and template.
    Tokenizer,
    /// Weights; the unit is bytes.
    Weights,
}

impl Stage {
    /// The stage in words for a person.
    pub fn words(self) -> &'static str {
        match self {
            Self::Header => "reading header",
            Self::Tokenizer => "building tokenizer",
            Self::Weights => "reading weights",
        }
    }
}

/// What a model will take, from its header alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Weights that this engine copies into private memory.
    pub weights_bytes: u64,
    /// Weights that it maps from the file.
    pub mapped_bytes: u64,
    /// KV cache for one position.
    pub kv_bytes_per_token: u64,
    /// Scratch, at its cap.
    pub scratch_bytes: u64,
    /// Vocabulary, template and the process itself.
    pub runtime_bytes: u64,
}

/// What is in a model's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether it makes vectors rather than answers.
    pub embedding: bool,
    /// `general.architecture`, or `bert`.
    pub family: String,
    /// Of most of the weights, as the field calls it: `Q4_1`, `F32`.
    pub quantization: String,
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// Parameters.
    pub parameters: u64,
    /// The longest context it was made for.
    pub context: u32,
    /// Whether the file brings a chat template.
    pub has_template: bool,
    /// Layers.
    pub layers: u32,
    /// Width of a hidden state.
    pub width: u32,
    /// Entries in the vocabulary.
    pub vocabulary: u32,
    /// What it will take.
    pub footprint: Footprint,
}

/// The model is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// What was in the files.
    pub facts: Facts,
    /// Positions that a sequence may have.
    pub context: u32,
    /// Compute threads.
    pub threads: u32,
    /// `cpu` or `gpu:0`.
    pub device: String,
    /// Which code serves this family: "candle quantized_llama", say.
    pub served_by: String,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model's end token, or a stop text.
    Stop,
    /// `max_tokens`, or the end of the context.
    Length,
    /// Cancelled.
    Cancelled,
}

/// Counts of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Of the answer.
    pub completion_tokens: u32,
    /// Of the prompt, taken from the session's cache.
    pub cached_tokens: u32,
}

/// Times of one answer, as the engine saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Reading the prompt, in microseconds.
    pub prefill_us: u64,
    /// Making tokens, in microseconds, waits for credit left out.
    pub decode_us: u64,
}

/// Why something could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The files are no model, or broken.
    BadFile,
    /// A model, but not one that this engine runs (its family, tensor type, tokenizer).
    Unsupported,
    /// The request does not make sense for this model.
    BadRequest,
    /// The prompt is longer than the context.
    ContextExceeded,
    /// Memory ran out.
    OutOfMemory,
    /// A fault of the engine.
    Internal,
}

/// Worker to server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First of all.
    Hello(Hello),
    /// What confines this worker, in a few words; said once after `Hello`.
    Confined {
        /// "no new privileges, no files".
        sandbox: String,
    },
    /// Answers `Inspect`.
    Facts(Facts),
    /// The load goes on.
    Progress {
        /// What it does.
        stage: Stage,
        /// So far, in the stage's unit.
        done: u64,
        /// In all.
        total: u64,
    },
    /// The load is done.
    Ready(Ready),
    /// The prompt was taken; reading it begins.
    Started {
        /// Which request.
        id: u64,
        /// Of the prompt.
        prompt_tokens: u32,
        /// Of these, from the session's cache.
        cached_tokens: u32,
    },
    /// One token's text; may be empty while a character is incomplete.
    Token {
        /// Which request.
        id: u64,
        /// From 0, without a gap.
        seq: u32,
        /// Whole characters.
        text: String,
    },
    /// The end of a `Generate`.
    Done {
        /// Which request.
        id: u64,
        /// Text held back (for a stop text that did not come).
        text: String,
        /// Why it ended.
        finish: Finish,
        /// Counts.
        usage: Usage,
        /// Times.
        timings: Timings,
    },
    /// The end of an `Embed`.
    Embedded {
        /// Which request.
        id: u64,
        /// Numbers of each vector. All are of one width: in a list of lists, empty ones would take a byte each in a frame
        /// and two dozen in the server.
        width: u32,
        /// One vector a text, normalised, one after another.
        numbers: Vec<f32>,
        /// Of all texts.
        prompt_tokens: u32,
    },
    /// The end of a request, or (`id` = `None`) of an `Inspect` or `Load`.
    Error {
        /// Which request.
        id: Option<u64>,
        /// For programs.
        code: ErrorCode,
        /// The cause, in a sentence.
        message: String,
    },
    /// What a session's conversation takes, after each of its requests.
    Held {
        /// Which.
        session: String,
        /// Its KV cache.
        bytes: u64,
    },
    /// Answers `EndSession`.
    SessionEnded {
        /// Which.
        session: String,
        /// Given back to the system.
        released_bytes: u64,
    },
    /// Answers `Ping`.
    Pong {
        /// As said.
        n: u64,
        /// Grows with each tensor loaded, each prefill chunk, each token: progress, as apart from liveness.
        step: u64,
    },
    /// The worker holds noticeably more than ever before, by its own count.
    Peak {
        /// Private bytes at the most, if only for a moment.
        bytes: u64,
    },
    /// The worker has nothing to do, and something of this differs from when it last had nothing to do. All of one moment:
    /// what is measured from outside belongs to a moment before or after what is kept.
    AtRest {
        /// Private bytes beyond those at ready, by its own count.
        grown_bytes: u64,
        /// Private bytes that are kept for sessions.
        kept_bytes: u64,
        /// Whether it has taken the largest step that there is.
        full: bool,
    },
}
