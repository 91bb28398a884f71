//! `{{ path }}`: looks a value up, with a few filters and nothing more.
