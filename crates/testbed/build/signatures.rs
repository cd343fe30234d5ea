//! Makes C from the tables in `native/signatures/`: libraries whose functions have the parameters
//! that the headers of CUDA declare, and calls of them.

mod table;

use std::fmt::Write as _;

pub(crate) use table::parse;

/// A function by one of its names.
pub(crate) struct Function {
    pub(crate) name: String,
    returns: Returns,
    parameters: Vec<Parameter>,
    /// Fields of the line with the C expression of each.
    fields: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Returns {
    Code,
    Pointer,
    Nothing,
}

#[derive(Clone)]
struct Parameter {
    access: Access,
    c_type: String,
    name: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Access {
    Value,
    /// What it points at is read.
    In,
    /// What it points at is written.
    Out,
}

/// The argument fields of a line, with their form in called.h.
const FIELDS: [(&str, &str); 16] = [
    ("function", "handle"),
    ("grid", "triple"),
    ("block", "triple"),
    ("shared_bytes", "number"),
    ("bytes", "number"),
    ("count", "number"),
    ("kind", "text"),
    ("ptr", "handle"),
    ("dst", "handle"),
    ("src", "handle"),
    ("allocation", "handle"),
    ("module", "handle"),
    ("graph", "handle"),
    ("graph_exec", "handle"),
    ("event", "handle"),
    ("stream", "handle"),
];

/// Factors of a product, with the name of their bits in values.h.
const FACTORS: [(&str, &str); 4] = [
    ("width", "WIDTH_BITS"),
    ("pitch", "WIDTH_BITS"),
    ("height", "HEIGHT_BITS"),
    ("elements", "ELEMENTS_BITS"),
];

impl Parameter {
    /// The value of the field that is called as the parameter is.
    fn value(&self) -> String {
        match self.access {
            Access::Out => format!("*{}", self.name),
            Access::Value | Access::In => match self.name.as_str() {
                "kind" => "KIND_NAME(kind)".to_owned(),
                name => name.to_owned(),
            },
        }
    }

    /// The type of what it points at, which can be written.
    fn pointee(&self) -> &str {
        self.c_type
            .trim_end_matches("const ")
            .trim_start_matches("const ")
            .strip_suffix('*')
            .expect("in and out are pointers")
            .trim()
    }

    fn bits(&self) -> Option<&'static str> {
        FACTORS.iter().find(|(name, _)| *name == self.name).map(|(_, bits)| *bits)
    }
}

impl Function {
    fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The weakest of what an expression depends on.
    fn reach(&self, expression: &str) -> &'static str {
        let words = || expression.split(|c: char| !c.is_alphanumeric() && c != '_');
        let uses = |access| {
            words().filter_map(|word| self.parameter(word)).any(|found| found.access == access)
        };
        if uses(Access::Out) {
            "RESULT"
        } else if uses(Access::In) {
            "BEHIND"
        } else {
            "GIVEN"
        }
    }

    /// The function itself, which prints its line.
    fn write_definition(&self, out: &mut String) {
        let (returned, end) = match self.returns {
            Returns::Code => ("uint64_t", "return end_with_code()"),
            Returns::Pointer => ("void *", "return end_with_pointer()"),
            Returns::Nothing => ("void", "end_with_nothing()"),
        };
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|parameter| format!("{} {}", parameter.c_type, parameter.name))
            .collect();
        let parameters =
            if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
        let mut line = |text: String| writeln!(out, "{text}").expect("text has room");
        line(format!("{returned} do_{}({parameters})\n{{", self.name));
        line(format!("    begin(\"{}\");", self.name));
        for given in self.parameters.iter().filter(|parameter| parameter.access == Access::Out) {
            let name = &given.name;
            line(format!("    GIVE({name});"));
            if let Some(bits) = given.bits() {
                line(format!(
                    "    if (mode() != UNREADABLE) CUT_WIDE(*{name}, {}, {bits});",
                    given.pointee()
                ));
            }
        }
        for (field, expression) in &self.fields {
            let (_, form) = FIELDS.iter().find(|(key, _)| key == field).expect("it was parsed");
            let value = match *form {
                // Three numbers in braces, or a macro that stands for them; not a dim3.
                "triple" if expression.starts_with('{') || expression.ends_with(')') => {
                    format!("((dim3){expression})")
                }
                "text" | "triple" => expression.clone(),
                _ => format!("WORD({expression})"),
            };
            line(format!("    FIELD({form}, \"{field}\", {}, {value});", self.reach(expression)));
        }
        if let Some((_, function)) = self.fields.iter().find(|(field, _)| field == "function") {
            let name = if self.parameter("name").is_some() {
                "name".to_owned()
            } else if self.parameter("named").is_some() {
                "kernel_of(WORD(named))".to_owned()
            } else {
                "NULL".to_owned()
            };
            line(format!(
                "    if (is_there({})) print_kernel(WORD({function}), {name});",
                self.reach(function)
            ));
        }
        line(format!("    {end};\n}}"));
    }

    /// A call of the function with values for its parameters.
    fn write_call(&self, library: usize, out: &mut String) {
        let mut line = |text: String| writeln!(out, "{text}").expect("text has room");
        let types: Vec<_> =
            self.parameters.iter().map(|parameter| format!("WIDE({})", parameter.c_type)).collect();
        let types = if types.is_empty() { "void".to_owned() } else { types.join(", ") };
        line(format!("extern uint64_t {}({types});", self.name));
        line(format!("static void call_{}(void)\n{{", self.name));
        for (slot, parameter) in self.parameters.iter().enumerate() {
            let Parameter { access, c_type, name } = parameter;
            match access {
                Access::In if name == "name" => {
                    line(format!("    const char *name = kernel_name({slot}, \"{}\");", self.name));
                }
                Access::In | Access::Out => {
                    line(format!("    POINTEE({}, {name}, {slot})", parameter.pointee()));
                }
                Access::Value => line(format!("    VALUE({c_type}, {name});")),
            }
            match (access, name.as_str()) {
                (Access::Value, "kind") => line("    LOW(kind, turn % 6);".to_owned()),
                (Access::Value, "named") => {
                    line(format!("    named = (__typeof__(named))named_kernels[{library}];"));
                }
                (Access::Value, "function") if self.parameter("name").is_none() => {
                    line(format!("    KNOWN(function, {library});"));
                }
                _ => {}
            }
            if let (Access::Value, Some(bits)) = (access, parameter.bits()) {
                line(format!("    CUT_WIDE({name}, {c_type}, {bits});"));
            }
        }
        let values: Vec<_> =
            self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        line(format!("    {}({});", self.name, values.join(", ")));
        if let (Some(_), Some(function)) = (self.parameter("name"), self.parameter("function")) {
            let value = function.value();
            line(format!(
                "    if (mode() == OK) named_kernels[{library}] = (uint64_t)(uintptr_t){value};"
            ));
        }
        line("}".to_owned());
    }
}

/// The functions of a library.
pub(crate) fn definitions(functions: &[Function]) -> String {
    let mut text = "#include \"called.h\"\n".to_owned();
    for function in functions {
        function.write_definition(&mut text);
    }
    text
}

/// The rows from which the stubs and their counts are made, as `driver.def` has them.
pub(crate) fn stubs(functions: &[Function]) -> String {
    let mut text = String::new();
    for Function { name, .. } in functions {
        writeln!(text, "EARLY({name}, {name}, 0)").expect("text has room");
    }
    text
}

/// Calls of the functions of all libraries.
pub(crate) fn calls(libraries: &[&[Function]]) -> String {
    let mut text = "#include \"caller.h\"\n".to_owned();
    let mut table = String::new();
    for (number, functions) in libraries.iter().enumerate() {
        for function in *functions {
            function.write_call(number, &mut text);
            writeln!(table, "    call_{},", function.name).expect("text has room");
        }
    }
    text + "void (*const calls[])(void) = {\n"
        + &table
        + "};\nconst unsigned call_count = sizeof calls / sizeof *calls;\n"
}
