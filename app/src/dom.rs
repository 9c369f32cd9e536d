//! Elements that are data instead of types.
//!
//! Leptos's `view!` makes a type of each element with everything in it, and each type brings its own code to build,
//! hydrate and update it. These two pages came to 410 kB of brotli that way, where 250 are allowed for the whole
//! house. Here all elements share one type, with their attributes, texts and children behind leptos's own erased
//! ones (`AnyAttribute`, `AnyView`), so that a page costs little more than its words. What follows the state is a
//! closure, and leptos runs it exactly as in `view!`: a text or an attribute is written when its value changed.

use std::sync::{Arc, Mutex};

use leptos::{
    ev::EventDescriptor,
    html,
    prelude::*,
    svg,
    tachys::{
        html::{
            attribute::{
                any_attribute::{AnyAttribute, IntoAnyAttribute},
                custom::custom_attribute,
            },
            event::on,
        },
        reactive_graph::SharedReactiveFunction,
        renderer::types::Event,
    },
};

/// An element under construction; [`From`] makes a view of it.
pub(crate) struct El {
    tag: &'static str,
    attributes: Vec<AnyAttribute>,
    children: Vec<AnyView>,
}

/// An element by its tag: HTML, or one of the few of SVG that the house draws with.
pub(crate) fn el(tag: &'static str) -> El {
    El { tag, attributes: Vec::new(), children: Vec::new() }
}

impl El {
    /// A fixed attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push(custom_attribute(name, value.into()).into_any_attr());
        self
    }

    /// A fixed attribute without a value.
    pub(crate) fn flag(self, name: &'static str) -> Self {
        self.attr(name, "")
    }

    /// `class`.
    pub(crate) fn class(self, classes: impl Into<String>) -> Self {
        self.attr("class", classes)
    }

    /// `id`.
    pub(crate) fn id(self, id: impl Into<String>) -> Self {
        self.attr("id", id)
    }

    /// An attribute that follows the state; `None` takes it away.
    pub(crate) fn attr_of(
        mut self,
        name: &'static str,
        value: impl FnMut() -> Option<String> + Send + 'static,
    ) -> Self {
        let value: SharedReactiveFunction<Option<String>> = Arc::new(Mutex::new(value));
        self.attributes.push(custom_attribute(name, value).into_any_attr());
        self
    }

    /// An attribute without a value, while a condition holds.
    pub(crate) fn flag_if(self, name: &'static str, holds: impl Fn() -> bool + Send + 'static) -> Self {
        self.attr_of(name, move || holds().then(String::new))
    }

    /// Out of sight, for everybody, while a condition holds.
    pub(crate) fn hidden_if(self, holds: impl Fn() -> bool + Send + 'static) -> Self {
        self.flag_if("hidden", holds)
    }

    /// What happens on an event. Runs in browsers only.
    pub(crate) fn on<E>(mut self, event: E, run: impl FnMut(E::EventType) + 'static) -> Self
    where
        E: EventDescriptor + Clone + Send + 'static,
        E::EventType: From<Event> + 'static,
    {
        let run: Box<dyn FnMut(E::EventType)> = Box::new(run);
        self.attributes.push(on(event, run).into_any_attr());
        self
    }

    /// A fixed text.
    pub(crate) fn say(self, text: impl Into<String>) -> Self {
        self.child(text.into().into_any())
    }

    /// A text that follows the state.
    pub(crate) fn text(self, text: impl FnMut() -> String + Send + 'static) -> Self {
        let text: SharedReactiveFunction<String> = Arc::new(Mutex::new(text));
        self.child(text.into_any())
    }

    /// A text that follows the state and may be nothing at all, so that the style sheet finds the element empty.
    pub(crate) fn text_if(self, text: impl FnMut() -> Option<String> + Send + 'static) -> Self {
        let text: SharedReactiveFunction<Option<String>> = Arc::new(Mutex::new(text));
        self.child(text.into_any())
    }

    /// An element or a view inside.
    pub(crate) fn child(mut self, child: impl Into<AnyView>) -> Self {
        self.children.push(child.into());
        self
    }

    /// Several.
    pub(crate) fn children<T: Into<AnyView>>(mut self, children: impl IntoIterator<Item = T>) -> Self {
        self.children.extend(children.into_iter().map(Into::into));
        self
    }

    /// Elements that follow the state by their place: the third stays the third, with other words.
    pub(crate) fn list(self, children: impl FnMut() -> Vec<AnyView> + Send + 'static) -> Self {
        let children: SharedReactiveFunction<Vec<AnyView>> = Arc::new(Mutex::new(children));
        self.child(children.into_any())
    }

    /// Elements that follow a list of keys: each is made once and stays with its key.
    pub(crate) fn each(
        self,
        keys: impl Fn() -> Vec<String> + Send + Sync + 'static,
        make: impl Fn(String) -> AnyView + Send + Sync + 'static,
    ) -> Self {
        type Keys = Box<dyn Fn() -> Vec<String> + Send + Sync>;
        type Make = Arc<dyn Fn(String) -> AnyView + Send + Sync>;
        let (keys, make): (Keys, Make) = (Box::new(keys), Arc::new(make));
        self.child(
            For(ForProps::builder().each(keys).key(String::clone).children(move |key| make(key)).build())
                .into_any(),
        )
    }
}

impl From<El> for AnyView {
    fn from(El { tag, attributes, children }: El) -> Self {
        // Elements that have no end tag, whose content is no markup (leptos's marker of an empty list would be their
        // text, and hydration would not find it), and those that browsers make in a namespace of their own.
        match tag {
            "input" => html::input().add_any_attr(attributes).into_any(),
            "textarea" => html::textarea().add_any_attr(attributes).into_any(),
            "svg" => svg::svg().add_any_attr(attributes).child(children).into_any(),
            "rect" => svg::rect().add_any_attr(attributes).child(children).into_any(),
            "line" => svg::line().add_any_attr(attributes).child(children).into_any(),
            "path" => svg::path().add_any_attr(attributes).child(children).into_any(),
            tag => html::custom(own_name(tag)).add_any_attr(attributes).child(children).into_any(),
        }
    }
}

/// A tag as the place where it is used calls it. Browsers name their elements in capitals, and tachys makes an element
/// anew whose name is not the one that it had (`tag_name()` against `tag()`): every sample would rebuild every list.
fn own_name(tag: &'static str) -> String {
    if cfg!(target_arch = "wasm32") { tag.to_ascii_uppercase() } else { tag.to_owned() }
}

/// A fixed text beside elements.
pub(crate) fn say(text: impl Into<String>) -> AnyView {
    text.into().into_any()
}

/// A text for those who listen: what a label says beyond what is seen.
pub(crate) fn unseen(text: impl Into<String>) -> El {
    el("span").class("visually-hidden").say(text)
}

#[cfg(all(test, feature = "ssr"))]
mod tests {
    use super::*;

    fn html(make: impl FnOnce() -> El) -> String {
        Owner::new().with(|| AnyView::from(make()).to_html())
    }

    #[test]
    fn attributes_and_texts_are_escaped() {
        let made = html(|| el("p").attr("title", "\"><i>").say("<b>&"));
        assert!(made.contains("title=\"&quot;&gt;&lt;i&gt;\"") && made.contains("&lt;b&gt;&amp;"), "{made}");
    }

    #[test]
    fn a_field_has_no_end_tag_and_a_missing_attribute_leaves_no_trace() {
        let made = html(|| el("input").attr("name", "q").attr_of("value", || None).flag("required"));
        assert_eq!(made, "<input name=\"q\" required=\"\">");
    }

    #[test]
    fn a_text_area_is_empty() {
        let made = html(|| el("textarea").attr("name", "prompt"));
        assert_eq!(made, "<textarea name=\"prompt\"></textarea>");
    }

    #[test]
    fn lists_keep_their_order() {
        let made =
            html(|| el("ul").each(|| vec!["a".to_owned(), "b".to_owned()], |key| el("li").say(key).into()));
        assert!(made.find("<li>a").unwrap() < made.find("<li>b").unwrap(), "{made}");
    }
}
