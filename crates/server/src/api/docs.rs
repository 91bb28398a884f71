//! The page about this API at `/docs`: `docs/api.md` of the release that is running.

use std::sync::LazyLock;

use axum::response::Html;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

const TEXT: &str = include_str!("../../../../docs/api.md");

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>hetuflow: API</title>\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<style>\n\
    body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }\n\
    table { border-collapse: collapse; } td, th { border: 1px solid #8884; padding: .3rem .6rem; vertical-align: top; text-align: left; }\n\
    code, pre { font-size: .9em; background: #8882; border-radius: .2em; padding: 0 .2em; } pre { padding: .6em; overflow: auto; }\n\
    @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } a { color: #8bf; } }\n\
    </style>\n</head>\n<body>\n";

static PAGE: LazyLock<String> = LazyLock::new(page);

pub(super) async fn show() -> Html<&'static str> {
    Html(&PAGE)
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    html::push_html(&mut page, events().into_iter());
    page.push_str("</body>\n</html>\n");
    page
}

/// Headings get the names that links within the page use; links to other files of the repository lead nowhere here.
fn events() -> Vec<Event<'static>> {
    let mut events: Vec<Event<'static>> = Parser::new_ext(TEXT, Options::ENABLE_TABLES).collect();
    let mut within = true;
    events.retain(|event| {
        if let Event::Start(Tag::Link { dest_url, .. }) = event {
            within = dest_url.starts_with('#') || dest_url.starts_with("https://");
            return within;
        }
        !matches!(event, Event::End(TagEnd::Link)) || std::mem::replace(&mut within, true)
    });
    for index in 0..events.len() {
        let heading = events[index..].iter().take_while(|event| !is_end_of_heading(event));
        let title: String = heading.filter_map(text_of).collect();
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[index] {
            *id = Some(CowStr::from(anchor(&title)));
        }
    }
    events
}

const fn is_end_of_heading(event: &Event<'_>) -> bool {
    matches!(event, Event::End(TagEnd::Heading(_)))
}

fn text_of<'a>(event: &'a Event<'static>) -> Option<&'a str> {
    if let Event::Text(text) | Event::Code(text) = event { Some(text) } else { None }
}

/// As the usual viewers of Markdown name a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || *letter == '-').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_within_the_page_leads_somewhere() {
        let page = page();
        let targets: Vec<&str> =
            page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
        }
        assert!(!page.contains(".md\""), "a link to a file");
        assert!(page.contains("<table>"));
    }
}
