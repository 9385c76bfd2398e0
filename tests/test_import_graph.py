"""No modules of the library import each other in a circle. import-linter checks the order of the folders."""

import grimp


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Groups of modules that each reach the others by their imports."""
    reached = {module: graph.find_upstream_modules(module) for module in graph.modules}
    found = {
        tuple(sorted({module, *(other for other in others if module in reached[other])}))
        for module, others in reached.items()
    }
    return sorted([*group] for group in found if len(group) > 1)


def test_no_modules_of_the_library_import_each_other_in_a_circle() -> None:
    # Imports in functions and for type checking count.
    assert circles(grimp.build_graph("carafe", cache_dir=None)) == []


def test_a_circle_is_found_and_its_modules_are_named() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")):
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["b", "c"]]
