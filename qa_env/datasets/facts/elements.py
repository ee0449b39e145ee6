"""Phrasings for the chemical elements, written for this project.

No phrasing begins with ``{e}`` and none has a possessive: the names of elements keep their small letter, so
that a name in a question and the same name in its context are one word to a tokenizer that minds case.
"""

from __future__ import annotations

from qa_env.datasets.facts.phrasings import Phrasings

ELEMENT = {
    "symbol": Phrasings(
        questions=(
            "What is the chemical symbol of {e}?",
            "Which symbol stands for {e}?",
            "Which letters are the symbol of {e}?",
            "Name the symbol of the element {e}.",
            "How do chemists write {e}?",
            "By which letters is the element {e} known in chemistry?",
            "What does the element {e} have as its symbol?",
            "In chemistry, {e} is written with which letters?",
        ),
        heldout_questions=(
            "What symbol does the element {e} have?",
            "With which letters is {e} written in chemistry?",
        ),
        statements=(
            "The chemical symbol of {e} is {v}.",
            "{v} is the symbol of the element {e}.",
            "The letters {v} stand for {e}.",
            "In chemistry, {e} is written as {v}.",
            "Chemists write {e} with the symbol {v}.",
            "As its symbol, the element {e} has the letters {v}.",
            "For the element {e}, one writes {v} in chemistry.",
            "{v} is how chemists write {e}.",
            "The element {e} is known by the symbol {v}.",
        ),
        heldout_statements=(
            "The element {e} has {v} as its symbol.",
            "For {e}, chemists write the letters {v}.",
        ),
    ),
    "atomic_number": Phrasings(
        questions=(
            "What is the atomic number of {e}?",
            "Which atomic number does {e} have?",
            "How many protons does an atom of {e} have?",
            "Name the atomic number of {e}.",
            "How many protons are in {e}?",
            "What is the number of protons in {e}?",
            "The atoms of {e} have how many protons?",
            "As its atomic number, what does the element {e} have?",
        ),
        heldout_questions=(
            "What number of protons does {e} have?",
            "The element {e} has what atomic number?",
        ),
        statements=(
            "The atomic number of {e} is {v}.",
            "The element {e} has the atomic number {v}.",
            "The number of protons in {e} is {v}.",
            "An atom of {e} has {v} protons.",
            "Atomic number {v} belongs to {e}.",
            "In every atom of {e}, there are {v} protons.",
            "{v} is the number of protons that {e} has.",
            "As its atomic number, the element {e} has {v}.",
            "An atom with {v} protons is an atom of {e}.",
        ),
        heldout_statements=(
            "There are {v} protons in an atom of {e}.",
            "{v} is the atomic number of the element {e}.",
        ),
    ),
    "atomic_weight": Phrasings(
        questions=(
            "What is the atomic weight of {e}?",
            "Which atomic weight does {e} have?",
            "How heavy is an atom of {e}?",
            "Name the atomic weight of {e}.",
            "How much does an atom of {e} weigh?",
            "What is the weight of atoms of {e}?",
            "In atomic units, what does the element {e} weigh?",
            "An atom of {e} has what weight?",
        ),
        heldout_questions=(
            "What do atoms of {e} weigh?",
            "The element {e} has what weight?",
        ),
        statements=(
            "The atomic weight of {e} is {v}.",
            "The element {e} has the atomic weight {v}.",
            "Atoms of {e} have a weight of {v}.",
            "An atom of {e} weighs {v} atomic units.",
            "An atom of {e} is {v} atomic units heavy.",
            "{v} is the atomic weight that the element {e} has.",
            "In atomic units, the weight of {e} is {v}.",
            "{v} atomic units is what atoms of {e} weigh.",
            "As its atomic weight, the element {e} has {v}.",
        ),
        heldout_statements=(
            "{v} is the weight of an atom of {e}.",
            "In atomic units, atoms of {e} weigh {v}.",
        ),
    ),
    "group": Phrasings(
        questions=(
            "In which group of the periodic table is {e}?",
            "Which group does {e} belong to?",
            "What is the group of the element {e}?",
            "In which column of the periodic table does {e} stand?",
            "Name the group of {e}.",
            "Which group holds the element {e}?",
            "To what column does the element {e} belong?",
            "Among the elements of which group do we find {e}?",
        ),
        heldout_questions=(
            "To which group of elements does {e} belong?",
            "Which column of the periodic table holds {e}?",
        ),
        statements=(
            "The group of {e} is {v}.",
            "In the periodic table, {e} is in group {v}.",
            "The element {e} belongs to group {v}.",
            "Column {v} of the periodic table holds {e}.",
            "Group {v} is the column of {e}.",
            "The elements of group {v} have {e} among them.",
            "In column {v} stands the element {e}.",
            "The column of the table in which {e} stands is {v}.",
            "Among all groups, {v} is the one that holds {e}.",
        ),
        heldout_statements=(
            "Among the elements of group {v} is {e}.",
            "In the periodic table, {e} stands in column {v}.",
        ),
    ),
    "period": Phrasings(
        questions=(
            "In which period of the periodic table is {e}?",
            "Which period does {e} belong to?",
            "What is the period of the element {e}?",
            "In which row of the periodic table does {e} stand?",
            "Name the period of {e}.",
            "Which period holds the element {e}?",
            "To what row does the element {e} belong?",
            "Among the elements of which period do we find {e}?",
        ),
        heldout_questions=(
            "To which period of elements does {e} belong?",
            "Which row of the periodic table holds {e}?",
        ),
        statements=(
            "The period of {e} is {v}.",
            "In the periodic table, {e} is in period {v}.",
            "The element {e} belongs to period {v}.",
            "Row {v} of the periodic table holds {e}.",
            "Period {v} is the row of {e}.",
            "The elements of period {v} have {e} among them.",
            "In row {v} stands the element {e}.",
            "The row of the table in which {e} stands is {v}.",
            "Among all periods, {v} is the one that holds {e}.",
        ),
        heldout_statements=(
            "Among the elements of period {v} is {e}.",
            "In the periodic table, {e} stands in row {v}.",
        ),
    ),
    "discovery_year": Phrasings(
        questions=(
            "In which year was {e} discovered?",
            "When was {e} discovered?",
            "What is the year of the discovery of {e}?",
            "When did chemists first find {e}?",
            "Name the year in which {e} was found.",
            "The element {e} was first found in which year?",
            "In what year was the discovery of {e} made?",
            "When did someone discover the element {e}?",
        ),
        heldout_questions=(
            "The discovery of {e} was in which year?",
            "In what year did someone first discover {e}?",
        ),
        statements=(
            "The year of the discovery of {e} is {v}.",
            "In {v}, the element {e} was discovered.",
            "Chemists first found {e} in {v}.",
            "The discovery of {e} was in {v}.",
            "People did not discover {e} before the year {v}.",
            "{v} was the year of the discovery of {e}.",
            "In the year {v}, someone discovered the element {e}.",
            "The year in which {e} was found is {v}.",
            "{v} is when chemists first found {e}.",
        ),
        heldout_statements=(
            "In the year {v}, {e} was first found.",
            "{v} was the year in which {e} was discovered.",
        ),
    ),
    "series": Phrasings(
        questions=(
            "To which family of elements does {e} belong?",
            "Which family of elements is {e} one of?",
            "What kind of element is {e}?",
            "Name the family of the element {e}.",
            "Among which elements is {e} counted?",
            "In which family of elements do we find {e}?",
            "The element {e} is an element of which kind?",
            "Of what family is {e} a member?",
        ),
        heldout_questions=(
            "Of which kind is the element {e}?",
            "In what family is {e} counted?",
        ),
        statements=(
            "The family of {e} is the {v}.",
            "The element {e} belongs to the {v}.",
            "One of the {v} is {e}.",
            "Chemists count {e} among the {v}.",
            "By its kind, {e} is one of the {v}.",
            "We find {e} in the family of the {v}.",
            "The {v} are the family to which {e} belongs.",
            "Among the elements called {v} is {e}.",
            "In the family of the {v} stands the element {e}.",
        ),
        heldout_statements=(
            "To the family of the {v} belongs {e}.",
            "Among the {v} we find {e}.",
        ),
    ),
}
