//! The file's own chat template: a Jinja program of which nothing is believed. Fuel ends a loop that does not, a cap
//! ends an output that grows, and it reaches nothing but the conversation.

use std::io::{Error as IoError, ErrorKind as IoKind, Write};

use link::{Role, Turn};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error as JinjaError, ErrorKind, context};

use crate::error::Error;

/// Instructions for one conversation; a long one of a thousand messages takes some 100,000. While they are carried out, the
/// worker does nothing else: so many take a fifth of a second.
const FUEL: u64 = 2_000_000;
/// Bytes beyond the conversation's own.
const MOST_FRAMING: usize = 1 << 20;
/// A template repeats each message a few times at the most.
const MOST_REPEATS: usize = 8;

/// Renders conversations.
pub(crate) struct Template {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Template {
    /// Checks that the source can be compiled.
    pub(crate) fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(64);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|why| Error::Template(words(&why)))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |words: String| -> Result<Value, JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, words))
        });
        environment.template_from_str(source).map_err(|why| Error::Template(words(&why)))?;
        Ok(Self { environment, source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The prompt for the next answer.
    pub(crate) fn render(&self, turns: &[Turn]) -> Result<String, Error> {
        let messages: Vec<Value> = turns
            .iter()
            .map(|turn| context! { role => role(&turn.role), content => turn.content.as_str() })
            .collect();
        let said: usize = turns.iter().map(|turn| turn.content.len()).sum();
        let mut out = Capped {
            bytes: Vec::new(),
            room: said.saturating_mul(MOST_REPEATS).saturating_add(MOST_FRAMING),
        };
        let template =
            self.environment.template_from_str(&self.source).map_err(|why| Error::Template(words(&why)))?;
        template
            .render_captured_to(
                context! {
                    messages,
                    add_generation_prompt => true,
                    bos_token => self.bos.as_str(),
                    eos_token => self.eos.as_str(),
                },
                &mut out,
            )
            .map_err(|why| Error::Template(words(&why)))?;
        String::from_utf8(out.bytes).map_err(|_| Error::Template("it wrote what is no text".to_owned()))
    }
}

fn role(role: &Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn words(why: &JinjaError) -> String {
    why.detail().map_or_else(|| why.kind().to_string(), str::to_owned)
}

/// A writer that ends.
struct Capped {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, IoError> {
        if bytes.len() > self.room {
            return Err(IoError::new(IoKind::FileTooLarge, "its output grows without end"));
        }
        self.room -= bytes.len();
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: Role, content: &str) -> Turn {
        Turn { role, content: content.to_owned() }
    }

    #[test]
    fn messages_come_in_order_with_the_prompt_for_the_answer() {
        let source = "{{ bos_token }}{% for m in messages %}\n  {% if m.role == 'user' %}\n[{{ m['content'].strip() }}]{% endif %}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}";
        let template = Template::new(source, "<s>", "</s>").unwrap();
        let text = template.render(&[turn(Role::User, " a "), turn(Role::User, "b")]).unwrap();
        assert_eq!(text, "<s>[a][b]>");
    }

    #[test]
    fn a_template_that_refuses_says_why() {
        let template = Template::new("{{ raise_exception('roles must alternate') }}", "", "").unwrap();
        let sentence = template.render(&[]).unwrap_err().to_string();
        assert!(sentence.contains("roles must alternate"), "{sentence}");
    }

    #[test]
    fn a_loop_without_end_runs_out_of_fuel() {
        let source = "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}";
        assert!(Template::new(source, "", "").unwrap().render(&[]).is_err());
    }

    #[test]
    fn an_output_without_end_is_cut() {
        let source = "{% for i in range(9000) %}{{ 'x' * 1000 }}{% endfor %}";
        assert!(Template::new(source, "", "").unwrap().render(&[]).is_err());
    }

    #[test]
    fn a_broken_template_is_an_error() {
        assert!(Template::new("{% for %}", "", "").is_err());
    }
}
