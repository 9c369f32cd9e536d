//! Settings: what can be changed while the server runs, each value with where it comes from; the verbs for all models
//! at once; how a program connects; how the pages look.

use leptos::prelude::*;
use protocol::Setting;

use super::page;
use crate::{
    Live,
    components::{
        Field, budget_picture, connect_card, own_timeout, pin_button, sessions_panel, setting_form,
        theme_choice, timeouts, upkeep_buttons, upkeep_dialogs,
    },
    dom::{El, el},
    words::{self, Group, SettingWords},
};

/// The page at `/settings`.
pub(crate) fn settings_page() -> AnyView {
    let live = expect_context::<Live>();
    page("Settings", |main| {
        main.class("settings")
            .child(upkeep(live))
            .child(el("div").class("two").child(group(live, Group::Timers, "timers", "Timers")).child(group(
                live,
                Group::Memory,
                "memory",
                "Memory",
            )))
            .child(group(live, Group::Other, "other", "Other"))
            .child(models(live))
            .child(sessions_panel())
            .child(el("div").class("two").child(connect_card()).child(browser(live)))
            .child(timeouts())
    })
}

/// How models stand, and the verbs for all of them.
fn upkeep(live: Live) -> El {
    let status = move || words::standing(&live.house());
    el("section")
        .attr("aria-labelledby", "settings")
        .child(
            el("div")
                .class("head middle")
                .child(
                    el("div")
                        .child(el("h1").id("settings").class("mid").say("Settings"))
                        .child(el("p").class("quiet val").text(status)),
                )
                .child(upkeep_buttons()),
        )
        .child(budget_picture(live))
        .child(upkeep_dialogs())
}

/// The settings that belong together; out of sight where there are none.
fn group(live: Live, group: Group, id: &'static str, title: &'static str) -> El {
    let keys = move || -> Vec<String> {
        let settings = live.settings.get();
        let all = settings.all().into_iter().map(|(key, _)| key.to_owned());
        all.filter(|key| words::setting_words(key).group == group).collect()
    };
    el("section")
        .attr("aria-labelledby", id)
        .hidden_if(move || keys().is_empty())
        .child(el("h2").id(id).say(title))
        .child(el("ul").class("settings-list").each(keys, move |key| row(live, key).into()))
}

fn row(live: Live, key: String) -> El {
    let SettingWords { name, does, .. } = words::setting_words(&key);
    let id = StoredValue::new(key.clone());
    let setting = move || -> Option<Setting> {
        let settings = live.settings.get();
        let found = settings.all().into_iter().find(|(key, _)| id.with_value(|id| id == key));
        found.map(|(_, setting)| setting.clone())
    };
    // The verb has an argument of this very name.
    let argument =
        live.settings.get_untracked().all().into_iter().map(|(name, _)| name).find(|name| *name == key);
    let field = Field {
        to: "/manage/settings",
        name: argument.unwrap_or_default(),
        model: None,
        label: name.clone(),
        explained: true,
        key: key.clone(),
    };
    el("li")
        .attr("data-setting", key)
        .child(el("div").child(el("h3").say(name)).child(el("p").class("sub").say(does)))
        .child(setting_form(field, setting, String::new))
}

/// What single models have of their own.
fn models(live: Live) -> El {
    let ids = move || live.house().models.iter().map(|model| model.id.to_string()).collect();
    let none = move || live.house().models.is_empty();
    let column = |name: &'static str| el("th").attr("scope", "col").say(name);
    let head = el("thead")
        .child(el("tr").children(["Model", "Idle timeout", "Spared by timers and clean-ups"].map(column)));
    el("section")
        .attr("aria-labelledby", "single")
        .child(el("h2").id("single").say("Single models"))
        .child(
            el("p")
                .class("quiet empty")
                .hidden_if(move || !none())
                .say("There is no model yet. Resources shows how to get one."),
        )
        .child(
            el("table")
                .class("single")
                .hidden_if(none)
                .child(head)
                .child(el("tbody").each(ids, move |id| model_row(live, &id).into())),
        )
}

fn model_row(live: Live, name: &str) -> El {
    let link = el("a").attr("href", format!("/model/{name}")).say(name);
    el("tr")
        .attr("data-model", name)
        .child(el("th").attr("scope", "row").child(el("span").class("name").child(link)))
        .child(el("td").child(own_timeout(live, name, true)))
        .child(el("td").child(pin_button(live, name)))
}

/// What this browser keeps for itself.
fn browser(live: Live) -> El {
    el("section")
        .attr("aria-labelledby", "looks")
        .child(el("h2").id("looks").say("This browser"))
        .child(
            el("div")
                .class("head middle")
                .child(
                    el("div")
                        .child(el("h3").say("Theme"))
                        .child(el("p").class("sub").say("Kept in this browser. System: as the machine has it.")),
                )
                .child(theme_choice(live)),
        )
        .child(
            el("p")
                .class("sub")
                .say("Your session ends half a minute after the last page of this browser is closed; what it holds is on Resources."),
        )
}
