//! HuJSON text → values, one at a time: a list of a million nodes is never all in memory.
//!
//! jsonc-parser's scanner makes the tokens. Its own tree takes 20 times the file's size.

use std::borrow::Cow;

use jsonc_parser::errors::ParseError;
use jsonc_parser::tokens::Token;
use jsonc_parser::{Scanner, ScannerOptions};

use super::{Kind, Member, Object, Value};
use crate::frontend::source::Span;

/// HuJSON is JSON plus comments and trailing commas, and nothing else.
const STRICT: ScannerOptions = ScannerOptions {
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Nesting beyond this is refused: no policy needs it, and the stack is not endless.
const DEEPEST: usize = 100;

/// Values that are in memory at once beyond which a file is refused: a hundred bytes each.
const MOST: usize = 4_000_000;

/// Text that is no HuJSON: where and why.
#[derive(Debug)]
pub(super) struct Syntax {
    pub(super) span: Span,
    pub(super) message: String,
}

impl From<ParseError> for Syntax {
    fn from(error: ParseError) -> Self {
        let range = error.range();
        let span = Span { start: range.start, end: range.end.max(range.start) };
        let message = error.kind().to_string();
        Self { span, message: message[..1].to_lowercase() + &message[1..] }
    }
}

/// Reads values from a text.
pub(super) struct Parser<'a> {
    scanner: Scanner<'a>,
    text: &'a str,
    /// The token at hand; none at the end of the text.
    token: Option<Token<'a>>,
    depth: usize,
    /// Values read since the last element of a list that is not kept.
    values: usize,
}

impl<'a> Parser<'a> {
    /// A parser at the first token.
    pub(super) fn new(text: &'a str) -> Result<Self, Syntax> {
        let mut parser =
            Self { scanner: Scanner::new(text, &STRICT), text, token: None, depth: 0, values: 0 };
        parser.advance()?;
        Ok(parser)
    }

    /// Whether there is nothing left.
    pub(super) fn at_end(&self) -> bool {
        self.token.is_none()
    }

    /// Whether a list begins here.
    pub(super) fn at_list(&self) -> bool {
        matches!(self.token, Some(Token::OpenBracket))
    }

    /// Whether an object begins here.
    pub(super) fn at_object(&self) -> bool {
        matches!(self.token, Some(Token::OpenBrace))
    }

    /// The span of the token at hand.
    fn span(&self) -> Span {
        Span { start: self.scanner.token_start(), end: self.scanner.token_end() }
    }

    /// What is wrong at the token at hand.
    pub(super) fn wrong(&self, wanted: &str) -> Syntax {
        let message = match &self.token {
            None => format!("expected {wanted}, the file ends here"),
            Some(token) => format!("expected {wanted}, this is {}", named(token)),
        };
        Syntax { span: self.span(), message }
    }

    /// Moves to the next token that is no comment. The span of the one left behind.
    fn advance(&mut self) -> Result<Span, Syntax> {
        let left = self.span();
        loop {
            match self.scanner.scan()? {
                Some(Token::CommentLine(_) | Token::CommentBlock(_)) => {}
                token => {
                    self.token = token;
                    break;
                }
            }
        }
        if matches!(self.token, Some(Token::String(_))) {
            let span = self.span();
            if let Some(at) = self.text[span.start..span.end].bytes().position(|byte| byte < 0x20) {
                let at = span.start + at;
                let message = "a string ends on its line: write \\n for a line break, \\t for a tab".into();
                return Err(Syntax { span: Span { start: at, end: at + 1 }, message });
            }
        }
        Ok(left)
    }

    fn deeper(&mut self) -> Result<(), Syntax> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("nested deeper than {DEEPEST} levels");
            return Err(Syntax { span: self.span(), message });
        }
        Ok(())
    }

    /// A string at hand.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        match &mut self.token {
            Some(Token::String(text)) => Some(std::mem::take(text)),
            _ => None,
        }
    }

    /// The value that begins here.
    pub(super) fn value(&mut self) -> Result<Value<'a>, Syntax> {
        self.values += 1;
        if self.values > MOST {
            return Err(Syntax { span: self.span(), message: format!("more than {MOST} values") });
        }
        if self.at_object() {
            let mut members = Vec::new();
            let span = self.members(|parser, name, span| {
                members.push(Member { name, span, value: parser.value()? });
                Ok(())
            })?;
            return Ok(Value { span, kind: Kind::Object(Object { span, members }) });
        }
        if self.at_list() {
            let mut elements = Vec::new();
            let span = self.elements(|_, value| elements.push(value))?;
            return Ok(Value { span, kind: Kind::Array(elements) });
        }
        let kind = match &mut self.token {
            Some(Token::String(text)) => Kind::String(std::mem::take(text)),
            Some(Token::Number(digits)) => Kind::Number(digits),
            Some(Token::Boolean(value)) => Kind::Boolean(*value),
            Some(Token::Null) => Kind::Null,
            _ => return Err(self.wrong("a value")),
        };
        Ok(Value { span: self.advance()?, kind })
    }

    /// The object that begins here: `each` is called at each member's value and reads it.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>, Span) -> Result<(), Syntax>,
    ) -> Result<Span, Syntax> {
        self.deeper()?;
        let start = self.advance()?.start;
        while !matches!(self.token, Some(Token::CloseBrace)) {
            let Some(name) = self.string() else { return Err(self.wrong("a name in quotes or }")) };
            let span = self.advance()?;
            if !matches!(self.token, Some(Token::Colon)) {
                return Err(self.wrong("a colon after the name"));
            }
            self.advance()?;
            each(self, name, span)?;
            match self.token {
                Some(Token::Comma) => drop(self.advance()?),
                Some(Token::CloseBrace) => {}
                _ => return Err(self.wrong("a comma or }")),
            }
        }
        self.depth -= 1;
        Ok(Span { start, end: self.advance()?.end })
    }

    /// Counts values from here on: those so far are not kept.
    pub(super) fn forget(&mut self, values: usize) {
        self.values = values;
    }

    /// How many values are kept.
    pub(super) fn kept(&self) -> usize {
        self.values
    }

    /// The list that begins here, element by element.
    pub(super) fn elements(&mut self, mut each: impl FnMut(&mut Self, Value<'a>)) -> Result<Span, Syntax> {
        self.deeper()?;
        let start = self.advance()?.start;
        while !matches!(self.token, Some(Token::CloseBracket)) {
            let value = self.value()?;
            each(self, value);
            match self.token {
                Some(Token::Comma) => drop(self.advance()?),
                Some(Token::CloseBracket) => {}
                _ => return Err(self.wrong("a comma or ]")),
            }
        }
        self.depth -= 1;
        Ok(Span { start, end: self.advance()?.end })
    }
}

fn named(token: &Token<'_>) -> String {
    match token {
        Token::String(_) => "a string".into(),
        Token::Number(_) => "a number".into(),
        // What it says is in the excerpt, if the file may be shown.
        Token::Word(_) => "a word without quotes".into(),
        other => format!("\"{}\"", other.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<serde_json::Value, String> {
        let mut parser = Parser::new(text).map_err(|error| error.message)?;
        let value = parser.value().map_err(|error| error.message)?;
        if parser.at_end() { Ok(super::super::plain(&value)) } else { Err("more".into()) }
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it() {
        for text in [
            r#"{}"#,
            r#"[]"#,
            r#"{"a": [1, -2.5e3, true, false, null, "x\n\"\u00e9\ud83d\ude00"], "b": {"c": []}}"#,
            r#" [ "é" , 0 ] "#,
        ] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
    }

    #[test]
    fn comments_and_trailing_commas_are_hujson_and_nothing_else_is() {
        let text = "// a\n{/* b */ \"a\": [1, 2,], // c\n}\n";
        assert_eq!(parse(text).unwrap(), serde_json::json!({"a": [1, 2]}));
        for bad in [
            "",
            "{",
            "[",
            "[1",
            "[1 2]",
            "[,]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1 \"b\":2}",
            "{a: 1}",
            "'a'",
            "0x10",
            "+1",
            ".5",
            "NaN",
            "[1,,2]",
            "\"a\nb\"",
            "\"\\x41\"",
            "/* open",
            "{} {}",
            "tru",
            "01",
            "\"open",
            "]",
            ":",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_values_than_memory_should_hold_are_refused() {
        let text = format!("[{}]", "0,".repeat(MOST));
        assert_eq!(Parser::new(&text).unwrap().value().unwrap_err().message, "more than 4000000 values");
        // Those that are not kept do not count.
        let mut parser = Parser::new(&text).unwrap();
        assert!(parser.elements(|parser, _| parser.forget(0)).is_ok());
    }

    #[test]
    fn spans_cover_what_was_written() {
        let text = r#"{"a": ["x", {"b": 1}]}"#;
        let value = Parser::new(text).unwrap().value().unwrap();
        let Kind::Object(object) = &value.kind else { panic!() };
        let at = |span: Span| &text[span.start..span.end];
        assert_eq!(at(value.span), text);
        assert_eq!(at(object.members[0].span), "\"a\"");
        let Kind::Array(elements) = &object.members[0].value.kind else { panic!() };
        assert_eq!(at(elements[0].span), "\"x\"");
        assert_eq!(at(elements[1].span), "{\"b\": 1}");
    }
}
