//! Cuts a condition at its outermost `&&`, so that a reason can name the clause that was false.

/// The clauses of `source`, which compiles as a whole; one clause when it is no plain conjunction.
pub(super) fn clauses(source: &str) -> Vec<&str> {
    let mut clauses = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    let mut at = 0;
    while let Some(token) = Token::at(source, at) {
        match token.text(source) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "&&" if depth == 0 => {
                clauses.push(source[start..at].trim());
                start = token.end;
            }
            // What binds weaker than `&&` at the outermost level: the parts are no clauses.
            "||" | "?" if depth == 0 => return vec![source.trim()],
            _ => {}
        }
        at = token.end;
    }
    clauses.push(source[start..].trim());
    clauses.into_iter().flat_map(inside_parentheses).collect()
}

/// Where brackets nest deeper than `limit`; the source need not be valid.
pub(super) fn too_deep(source: &str, limit: usize) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(token) = Token::at(source, at) {
        match token.text(source) {
            "(" | "[" | "{" if depth == limit => return Some(at),
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = token.end;
    }
    None
}

/// `(a && b)` is two clauses, too.
fn inside_parentheses(clause: &str) -> Vec<&str> {
    let inner = clause.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    match inner {
        Some(inner) if is_balanced(inner) => clauses(inner),
        Some(_) | None => vec![clause],
    }
}

fn is_balanced(source: &str) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(token) = Token::at(source, at) {
        match token.text(source) {
            "(" => depth += 1,
            ")" if depth == 0 => return false,
            ")" => depth -= 1,
            _ => {}
        }
        at = token.end;
    }
    depth == 0
}

struct Token {
    start: usize,
    end: usize,
}

impl Token {
    fn at(source: &str, start: usize) -> Option<Self> {
        let rest = &source[start..];
        let first = rest.chars().next()?;
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = text_literal(rest) {
            length
        } else if rest.starts_with("&&") || rest.starts_with("||") || rest.starts_with(".?") {
            2
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        Some(Self { start, end: start + length })
    }

    fn text<'s>(&self, source: &'s str) -> &'s str {
        &source[self.start..self.end]
    }
}

/// The length of the text literal that `rest` starts with: `"a"`, `'''a'''`, `r"\a"`, `b'a'`.
fn text_literal(rest: &str) -> Option<usize> {
    let prefix = rest.find(['"', '\'']).filter(|at| *at <= 2)?;
    if !rest[..prefix].chars().all(|c| matches!(c, 'r' | 'R' | 'b' | 'B')) {
        return None;
    }
    let raw = rest[..prefix].contains(['r', 'R']);
    let quote = &rest[prefix..=prefix];
    let triple = quote.repeat(3);
    let quote = if rest[prefix..].starts_with(&triple) { triple.as_str() } else { quote };
    let mut at = prefix + quote.len();
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with(quote) {
            return Some(at + quote.len());
        }
        at += c.len_utf8();
        if c == '\\' && !raw {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    Some(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts() {
        let check = |source: &str, expected: &[&str]| assert_eq!(clauses(source), expected, "{source}");
        check("a", &["a"]);
        check("a && b", &["a", "b"]);
        check("a == '&&' && b", &["a == '&&'", "b"]);
        check(r#"a == "\"&&" && b"#, &[r#"a == "\"&&""#, "b"]);
        check(r"a.matches(r'\') && b", &[r"a.matches(r'\')", "b"]);
        check("a == '''x' && '''&& b", &["a == '''x' && '''", "b"]);
        check("f(a && b) && c", &["f(a && b)", "c"]);
        check("(a && b) && c", &["a", "b", "c"]);
        check("(a) && (b || c)", &["a", "b || c"]);
        check("(a && b) == (c)", &["(a && b) == (c)"]);
        check("a && b || c", &["a && b || c"]);
        check("a ? b : c && d", &["a ? b : c && d"]);
        check("a.?b.orValue(true) && c", &["a.?b.orValue(true)", "c"]);
        check("a // && x\n && b", &["a // && x", "b"]);
    }
}
