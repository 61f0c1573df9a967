"""Mutants: a source file with one change to its mathematics. For `mutants.py`.

What counts as mathematics: every function that a pass can reach inside its file (`ROOTS`, and what is decorated as a
formula), and lambdas at the top of a file, with the functions that stand beside them in a table; but not what only
leads to a `raise`, nor checks of arguments, constructors, defaults and annotations. What is changed:

    sign       + and - exchanged, a unary minus dropped, a whole result, assigned value or argument negated
    operator   * and /, // and *, % and //, ** and *; sum and mean, maximum and minimum, ... (`TWINS`)
    compare    > into <=, == into !=, in, is, `and` into `or`, `not` dropped
    constant   n into n + 1 (axes and slices too), True into False
    drop       a statement: accumulate(...), y += ..., y[...] = ...
    order      the operands of @ exchanged, a .T dropped
"""

import ast
from dataclasses import dataclass

ROOTS = ("forward", "backward", "tangent", "accumulate", "elements", "loss_", "grad_")
CHECKS = ("check", "_check", "expect")  # functions that only look at their arguments

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
             ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
COMPARISONS = {ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
               ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
TWINS = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "argmax": "argmin", "maximum": "minimum",
         "minimum": "maximum", "multiply": "divide", "divide": "multiply", "add": "subtract", "subtract": "add",
         "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "ones_like": "zeros_like", "floor": "ceil"}
NO_NUMBER = "bad operand type for unary -", "boolean negative, the `-` operator"
SIGNS = (ast.Add, ast.Sub)


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the source from `start` to `end` (bytes) becomes `after`."""

    file: str
    line: int
    last: int       # of the lines that the changed node stands on
    start: int
    end: int
    kind: str
    before: str
    after: str
    function: str

    @property
    def anywhere(self):
        """What it is, wherever its line stands."""
        return f"{self.file} {self.function}: {self.kind}: {short(self.before)} -> {short(self.after)}"

    def __str__(self):
        return self.anywhere.replace(" ", f":{self.line} ", 1)

    def says_nothing(self, error):
        """Whether this error tells only that what was negated is no number."""
        return self.kind == "sign" and any(words in error for words in NO_NUMBER)

    def source(self, text):
        data = text.encode()
        return (data[:self.start] + self.after.encode() + data[self.end:]).decode()


def called(call):
    """The name of the function that is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def short(text, width=70):
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[:width - 4]} ..."


def mutants_of(path, name):
    """All mutants of the file at `path`, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    finder = Finder(text, name)
    for function, node in mathematics(ast.parse(text)):
        finder.function = function
        if isinstance(node, ast.Lambda):
            finder.negate(node.body)
        body = node.body if isinstance(node.body, list) else [node.body]
        for child in body:
            finder.visit(child)
    unique = {(mutant.start, mutant.end, mutant.after): mutant for mutant in finder.found}
    return sorted(unique.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.after))


def mathematics(tree):
    """(name, node) of the functions and lambdas to change."""
    functions, reached, roots = {}, set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            functions.setdefault(node.name, []).append(node)
    for name, nodes in functions.items():
        decorators = " ".join(ast.unparse(decorator) for node in nodes for decorator in node.decorator_list)
        if name.startswith(ROOTS) or "formula" in decorators:
            roots.append(name)
    tables = [top for top in tree.body if isinstance(top, ast.Assign)
              and any(isinstance(node, ast.Call | ast.Lambda) for node in ast.walk(top))]
    roots += [word for top in tables for word in words_of(top) if word in functions]
    while roots:
        name = roots.pop()
        if name in reached or name.startswith(("__", *CHECKS)):
            continue
        reached.add(name)
        for node in functions[name]:
            roots += [word for word in words_of(node) if word in functions]
    inner = {id(child) for name in reached for node in functions[name] for child in ast.walk(node) if child is not node}
    chosen = [(name, node) for name in reached for node in functions[name] if id(node) not in inner]
    lambdas = [node for top in tables for node in ast.walk(top) if isinstance(node, ast.Lambda)]
    return chosen + [("lambda", node) for node in lambdas]


def words_of(node):
    """The names and attributes in it."""
    return {getattr(child, "id", getattr(child, "attr", None)) for child in ast.walk(node)}


class Finder(ast.NodeVisitor):
    """Collects the mutants of what it visits in `found`."""

    def __init__(self, text, name):
        self.name, self.found, self.function = name, [], ""
        self.starts = [0]
        self.data = text.encode()
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def add(self, node, kind, after):
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        before = self.data[start:end].decode()
        self.found.append(Mutant(self.name, node.lineno, node.end_lineno, start, end, kind, before, after,
                                 self.function))

    def replace(self, node, kind, **fields):
        """The expression `node` with other fields."""
        changed = type(node)(**{**dict(ast.iter_fields(node)), **fields})
        self.add(node, kind, f"({ast.unparse(changed)})")

    def negate(self, node):
        """Where it may hold a number; what does not is found when it runs."""
        is_memory = isinstance(node, ast.Call) and called(node).startswith(("empty", "zeros"))  # no sign in it
        if isinstance(node, ast.BinOp | ast.Call | ast.Name | ast.Attribute | ast.Subscript) and not is_memory:
            self.add(node, "sign", f"(-({ast.unparse(node)}))")

    # -- statements

    def visit_FunctionDef(self, node):
        for statement in node.body:
            self.visit(statement)

    def visit_Raise(self, node):
        pass

    visit_Assert = visit_JoinedStr = visit_Raise

    def visit_Lambda(self, node):
        self.visit(node.body)

    def visit_If(self, node):
        if isinstance(node.body[-1], ast.Raise) and not node.orelse:
            return
        self.generic_visit(node)

    def visit_Return(self, node):
        if node.value is not None:
            for value in node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]:
                self.negate(value)
            self.visit(node.value)

    def visit_Assign(self, node):
        if isinstance(node.targets[0], ast.Subscript):
            self.add(node, "drop", "pass")
        self.negate(node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self.add(node, "drop", "pass")
        if type(node.op) in OPERATORS:
            other = ast.unparse(ast.BinOp(node.target, OPERATORS[type(node.op)](), node.target))
            symbol = other.removeprefix(ast.unparse(node.target)).removesuffix(ast.unparse(node.target)).strip()
            self.add(node, "sign" if isinstance(node.op, SIGNS) else "operator",
                     f"{ast.unparse(node.target)} {symbol}= {ast.unparse(node.value)}")
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant) or (isinstance(node.value, ast.Call)
                                                    and called(node.value).startswith(CHECKS)):
            return  # a docstring, or a check
        self.add(node, "drop", "pass")
        if isinstance(node.value, ast.Call):
            for argument in node.value.args:
                self.negate(argument)
        self.generic_visit(node)

    # -- expressions

    def visit_BinOp(self, node):
        if type(node.op) in OPERATORS:
            self.replace(node, "sign" if isinstance(node.op, SIGNS) else "operator", op=OPERATORS[type(node.op)]())
        if isinstance(node.op, ast.MatMult):
            self.replace(node, "order", left=node.right, right=node.left)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.USub):
            self.add(node, "sign", f"({ast.unparse(node.operand)})")
        elif isinstance(node.op, ast.Not):
            self.add(node, "compare", f"(bool({ast.unparse(node.operand)}))")
        if not isinstance(node.operand, ast.Constant):
            self.generic_visit(node)

    def visit_Compare(self, node):
        for i, op in enumerate(node.ops):
            self.replace(node, "compare", ops=[*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1:]])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        self.replace(node, "compare", op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        self.generic_visit(node)

    def visit_Attribute(self, node):
        if node.attr == "T":
            self.add(node, "order", ast.unparse(node.value))
        self.generic_visit(node)

    def visit_Call(self, node):
        word = called(node)
        if word in TWINS and isinstance(node.func, ast.Attribute):
            self.replace(node.func, "operator", attr=TWINS[word])
        if word.startswith((*CHECKS, "isinstance", "super", "type", "hasattr", "getattr")):
            return
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add(node, "constant", str(not node.value))
        elif isinstance(node.value, int | float):
            self.add(node, "constant", repr(node.value + 1))
