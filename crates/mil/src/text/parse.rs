//! Text → program. Reads what Apple's compiler and [`super::print`] write, in both styles.

use super::lex::{Lexer, Token};
use super::literal;
use super::print::Style;
use crate::{
    Binding, Block, DType, Dim, Function, NamedType, Operation, Program, Result, TensorType,
};
use crate::{Value, ValueData, ValueType};
use std::collections::BTreeMap;

/// Deepest nesting of types, literals and blocks.
const DEPTH: usize = 64;

/// A program and the style it was written in.
///
/// Errors: `Error::Text` with the line, what was expected and what was found. No input makes it panic, and what it allocates is
/// at most a small multiple of the text's length.
pub fn parse(text: &str) -> Result<(Program, Style)> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        ahead: None,
        style: Style::Old,
        depth: 0,
    };
    let program = parser.file()?;
    Ok((program, parser.style))
}

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Token<'a>>,
    style: Style,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Result<Option<&Token<'a>>> {
        if self.ahead.is_none() {
            self.ahead = self.lexer.next()?;
        }
        Ok(self.ahead.as_ref())
    }

    fn take(&mut self) -> Result<Token<'a>> {
        self.peek()?;
        self.ahead
            .take()
            .ok_or_else(|| self.lexer.error("the text ends too early"))
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> crate::Error {
        self.lexer.error(reason)
    }

    pub(super) fn at(&mut self, mark: &str) -> Result<bool> {
        Ok(matches!(self.peek()?, Some(Token::Mark(m)) if *m == mark))
    }

    /// Takes `mark` if it comes next.
    pub(super) fn skip(&mut self, mark: &str) -> Result<bool> {
        let found = self.at(mark)?;
        if found {
            self.ahead = None;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, mark: &str) -> Result<()> {
        match self.take()? {
            Token::Mark(m) if m == mark => Ok(()),
            other => Err(self.error(format!("expected `{mark}`, found {}", other.shown()))),
        }
    }

    pub(super) fn word(&mut self) -> Result<&'a str> {
        match self.take()? {
            Token::Word(w) => Ok(w),
            other => Err(self.error(format!("expected a word, found {}", other.shown()))),
        }
    }

    pub(super) fn text(&mut self) -> Result<String> {
        match self.take()? {
            Token::Text(t) => Ok(t),
            other => Err(self.error(format!("expected a string, found {}", other.shown()))),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<()> {
        let word = self.word()?;
        if word == keyword {
            Ok(())
        } else {
            Err(self.error(format!("expected `{keyword}`, found `{word}`")))
        }
    }

    /// `item {"," item}` up to `close`, which is taken.
    pub(super) fn list(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if self.skip(close)? {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.skip(close)? {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    /// Runs `inner` one level deeper.
    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= DEPTH {
            return Err(self.error(format!("nested deeper than {DEPTH} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn file(&mut self) -> Result<Program> {
        self.keyword("program")?;
        self.expect("(")?;
        self.style = match self.word()? {
            "1.0" => Style::Old,
            "1.3" => Style::New,
            other => {
                return Err(self.error(format!(
                    "expected program version 1.0 or 1.3, found `{other}`"
                )));
            }
        };
        self.expect(")")?;
        let attributes = if self.skip("[")? {
            self.attributes()?
        } else {
            BTreeMap::new()
        };
        self.expect("{")?;
        let mut functions = BTreeMap::new();
        while !self.skip("}")? {
            let (name, function) = self.function()?;
            if functions.insert(name.clone(), function).is_some() {
                return Err(self.error(format!("two functions are called `{name}`")));
            }
        }
        match self.peek()? {
            None => Ok(Program {
                version: 1,
                functions,
                attributes,
            }),
            Some(other) => {
                let shown = other.shown();
                Err(self.error(format!("expected the end, found {shown}")))
            }
        }
    }

    fn function(&mut self) -> Result<(String, Function)> {
        self.keyword("func")?;
        let name = self.word()?.to_string();
        self.expect("<")?;
        let tag = self.word()?;
        let opset = match tag.strip_prefix("ios").and_then(|n| n.parse::<u32>().ok()) {
            Some(n @ 15..=19) => format!("CoreML{}", n - 10),
            Some(26) => "CoreML9".to_string(),
            _ => return Err(self.error(format!("unknown opset `{tag}`"))),
        };
        self.expect(">")?;
        self.expect("(")?;
        let inputs = self.parameters()?;
        let attributes = if self.skip("[")? {
            self.attributes()?
        } else {
            BTreeMap::new()
        };
        self.expect("{")?;
        let block = self.block(Vec::new())?;
        self.expect(";")?;
        let blocks = BTreeMap::from([(opset.clone(), block)]);
        Ok((
            name,
            Function {
                inputs,
                opset,
                blocks,
                attributes,
            },
        ))
    }

    /// `type name {"," type name} ")"`.
    fn parameters(&mut self) -> Result<Vec<NamedType>> {
        let mut parameters = Vec::new();
        self.list(")", |p| {
            let ty = p.value_type()?;
            parameters.push(NamedType {
                name: p.word()?.to_string(),
                ty,
            });
            Ok(())
        })?;
        Ok(parameters)
    }

    /// Operations, then `"}" "->" "(" names ")"`.
    fn block(&mut self, inputs: Vec<NamedType>) -> Result<Block> {
        let mut operations = Vec::new();
        while !self.skip("}")? {
            operations.push(self.operation()?);
        }
        self.expect("->")?;
        self.expect("(")?;
        let mut outputs = Vec::new();
        self.list(")", |p| {
            outputs.push(p.word()?.to_string());
            Ok(())
        })?;
        Ok(Block {
            inputs,
            outputs,
            operations,
            attributes: BTreeMap::new(),
        })
    }

    fn operation(&mut self) -> Result<Operation> {
        let mut op = Operation::default();
        let mut first = self.word()?;
        // An op name is followed by `(`, a type by `<` or by a variable's name.
        if !self.at("(")? {
            loop {
                let ty = self.value_type_after(first)?;
                op.outputs.push(NamedType {
                    name: self.word()?.to_string(),
                    ty,
                });
                if self.skip("=")? {
                    break;
                }
                self.expect(",")?;
                first = self.word()?;
            }
            first = self.word()?;
        }
        op.kind = first.to_string();
        self.expect("(")?;
        self.list(")", |p| {
            let parameter = p.word()?.to_string();
            p.expect("=")?;
            let mut bindings = Vec::new();
            if p.skip("(")? {
                p.list(")", |p| {
                    bindings.push(p.binding()?);
                    Ok(())
                })?;
            } else {
                bindings.push(p.binding()?);
            }
            match op.inputs.insert(parameter.clone(), bindings) {
                None => Ok(()),
                Some(_) => Err(p.error(format!("parameter `{parameter}` is given twice"))),
            }
        })?;
        if self.skip("[")? {
            op.attributes = self.attributes()?;
        }
        while self.skip("(")? {
            let inputs = self.parameters()?;
            self.expect("{")?;
            let block = self.deeper(|p| p.block(inputs))?;
            op.blocks.push(block);
        }
        self.expect(";")?;
        Ok(op)
    }

    /// A variable, or a literal: its type is followed by `<` or `(`.
    fn binding(&mut self) -> Result<Binding> {
        let word = self.word()?;
        if self.at("<")? || self.at("(")? {
            let ty = self.value_type_after(word)?;
            return Ok(Binding::Value(self.value_of(ty)?));
        }
        Ok(Binding::Name(word.to_string()))
    }

    /// `name = value {"," name = value} "]"`.
    fn attributes(&mut self) -> Result<BTreeMap<String, Value>> {
        let mut attributes = BTreeMap::new();
        self.list("]", |p| {
            let name = p.word()?.to_string();
            p.expect("=")?;
            let ty = p.value_type()?;
            let value = p.value_of(ty)?;
            match attributes.insert(name.clone(), value) {
                None => Ok(()),
                Some(_) => Err(p.error(format!("attribute `{name}` is given twice"))),
            }
        })?;
        Ok(attributes)
    }

    /// `"(" literal ")"` or `"(" BLOBFILE(…) ")"` after a type.
    fn value_of(&mut self, ty: ValueType) -> Result<Value> {
        self.expect("(")?;
        let blob = matches!(self.peek()?, Some(Token::Word("BLOBFILE")));
        let data = if blob {
            self.blob()?
        } else {
            literal::data(self, &ty)?
        };
        self.expect(")")?;
        Ok(Value { ty, data })
    }

    fn blob(&mut self) -> Result<ValueData> {
        self.keyword("BLOBFILE")?;
        self.expect("(")?;
        self.keyword("path")?;
        self.expect("=")?;
        self.value_type()?;
        self.expect("(")?;
        let file = self.text()?;
        self.expect(")")?;
        self.expect(",")?;
        self.keyword("offset")?;
        self.expect("=")?;
        self.value_type()?;
        self.expect("(")?;
        let word = self.word()?;
        let offset = word
            .parse()
            .map_err(|_| self.error(format!("expected an offset, found `{word}`")))?;
        self.expect(")")?;
        self.expect(")")?;
        Ok(ValueData::Blob { file, offset })
    }

    fn value_type(&mut self) -> Result<ValueType> {
        let word = self.word()?;
        self.value_type_after(word)
    }

    /// A type whose first word has been taken.
    fn value_type_after(&mut self, word: &str) -> Result<ValueType> {
        if let Some(dtype) = DType::from_word(word) {
            return Ok(TensorType::scalar(dtype).into());
        }
        self.expect("<")?;
        let ty = self.deeper(|p| match word {
            "tensor" => {
                let word = p.word()?;
                let dtype = DType::from_word(word)
                    .ok_or_else(|| p.error(format!("unknown element type `{word}`")))?;
                p.expect(",")?;
                p.expect("[")?;
                let mut dims = Vec::new();
                p.list("]", |p| {
                    dims.push(p.dim()?);
                    Ok(())
                })?;
                Ok(ValueType::Tensor(TensorType { dtype, dims }))
            }
            "list" => {
                let inner = p.value_type()?;
                p.expect(",")?;
                Ok(ValueType::List(Box::new(inner), p.dim()?))
            }
            "dict" => {
                let key = p.value_type()?;
                p.expect(",")?;
                Ok(ValueType::Dictionary(
                    Box::new(key),
                    Box::new(p.value_type()?),
                ))
            }
            "tuple" => {
                let mut items = vec![p.value_type()?];
                while p.skip(",")? {
                    items.push(p.value_type()?);
                }
                Ok(ValueType::Tuple(items))
            }
            "state" => Ok(ValueType::State(Box::new(p.value_type()?))),
            other => Err(p.error(format!("unknown type `{other}`"))),
        })?;
        self.expect(">")?;
        Ok(ty)
    }

    fn dim(&mut self) -> Result<Dim> {
        match self.word()? {
            "?" => Ok(Dim::Unknown { variadic: false }),
            "..." => Ok(Dim::Unknown { variadic: true }),
            n => n
                .parse()
                .map(Dim::Fixed)
                .map_err(|_| self.error(format!("expected a dimension, found `{n}`"))),
        }
    }
}
