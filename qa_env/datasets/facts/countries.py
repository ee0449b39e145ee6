"""Phrasings for countries, written for this project.

No phrasing puts a possessive after ``{e}``: two-step questions fill in "the country in which Osaka lies".
The words that carry a relation in a held-out question ("governed", "inhabitants") occur in a training
phrasing of that relation, because a network without pretrained word vectors knows no other synonyms.
"""

from __future__ import annotations

from qa_env.datasets.facts.phrasings import Phrasings

COUNTRY = {
    "capital": Phrasings(
        questions=(
            "What is the capital of {e}?",
            "Which city is the capital of {e}?",
            "Name the capital city of {e}.",
            "{e} has which city as its capital?",
            "Where is the government of {e}?",
            "What is the city called that {e} is governed from?",
            "From what place does the government rule {e}?",
            "The city that is the capital of {e} has what name?",
        ),
        heldout_questions=(
            "From which city is {e} governed?",
            "The capital of {e} is called what?",
        ),
        statements=(
            "The capital of {e} is {v}.",
            "{v} is the capital city of {e}.",
            "{e} has its capital in {v}.",
            "{e} is governed from {v}.",
            "The government of {e} sits in the city of {v}.",
            "Among its cities, {e} has {v} as the capital.",
            "{v} is the city that {e} is governed from.",
            "From {v}, the government rules all of {e}.",
            "As the capital, {e} chose the city called {v}.",
        ),
        heldout_statements=(
            "As its capital, {e} has {v}.",
            "{v} is the city from which the government rules {e}.",
        ),
    ),
    "continent": Phrasings(
        questions=(
            "On which continent does {e} lie?",
            "Which continent is {e} part of?",
            "What is the continent of {e}?",
            "To which continent does {e} belong?",
            "{e} is found on which continent?",
            "Name the continent on which one finds {e}.",
            "As a part of which continent is {e} counted?",
            "The continent where {e} is located has what name?",
        ),
        heldout_questions=(
            "Name the continent where {e} is located.",
            "Of which continent is {e} a part?",
        ),
        statements=(
            "The continent of {e} is {v}.",
            "{e} lies on the continent of {v}.",
            "{e} belongs to the continent of {v}.",
            "{e} is located in {v}.",
            "On the map, {e} is found in {v}.",
            "{v} is the continent that holds {e}.",
            "On the globe, {e} forms a part of {v}.",
            "{v} is where one finds {e} on the map.",
            "Of all continents, {v} is the one where {e} lies.",
        ),
        heldout_statements=(
            "{v} is the continent where {e} is found.",
            "{e} is a part of {v}.",
        ),
    ),
    "currency": Phrasings(
        questions=(
            "What is the currency of {e}?",
            "Which currency is used in {e}?",
            "What money do people use in {e}?",
            "Name the currency of {e}.",
            "In {e}, people pay in which currency?",
            "With which currency can one pay for bread in {e}?",
            "{e} uses which kind of money?",
            "What does one pay with when shopping in {e}?",
        ),
        heldout_questions=(
            "With which money does one pay in {e}?",
            "{e} uses what as its currency?",
        ),
        statements=(
            "The currency of {e} is the {v}.",
            "{e} uses the {v} as its money.",
            "People in {e} pay with the {v}.",
            "The money used in {e} is the {v}.",
            "The {v} is the currency used in {e}.",
            "In the shops of {e}, the {v} is what one pays with.",
            "As money, the {v} is used in {e}.",
            "With the {v}, one pays for bread in {e}.",
            "As the currency of its shops and banks, {e} uses the {v}.",
        ),
        heldout_statements=(
            "In {e}, one pays with the {v}.",
            "As its currency, {e} uses the {v}.",
        ),
    ),
    "internet_domain": Phrasings(
        questions=(
            "What is the internet domain of {e}?",
            "Which internet domain does {e} use?",
            "What do web addresses in {e} end in?",
            "Name the internet domain of {e}.",
            "Which ending do web addresses from {e} have?",
            "On the internet, which domain stands for {e}?",
            "{e} uses which ending for its internet addresses?",
            "In which domain do the web pages from {e} end?",
        ),
        heldout_questions=(
            "In what do internet addresses from {e} end?",
            "{e} uses which domain on the internet?",
        ),
        statements=(
            "The internet domain of {e} is {v}.",
            "{e} uses the internet domain {v}.",
            "Web addresses from {e} end in {v}.",
            "{v} is the internet domain of {e}.",
            "On the internet, addresses in {e} have the ending {v}.",
            "The ending used by internet pages from {e} is {v}.",
            "{v} is the domain that {e} uses on the internet.",
            "{v} stands at the end of web addresses in {e}.",
            "In {v} end the internet addresses from {e}.",
        ),
        heldout_statements=(
            "The domain used by web addresses in {e} is {v}.",
            "{v} is the ending of internet addresses from {e}.",
        ),
    ),
    "calling_code": Phrasings(
        questions=(
            "What is the calling code of {e}?",
            "Which calling code does {e} have?",
            "What code do you dial to call {e}?",
            "Name the telephone code of {e}.",
            "Telephone numbers in {e} start with which code?",
            "Which code reaches {e} by telephone?",
            "To telephone someone in {e}, which code does one dial?",
            "What do you dial first before a number in {e}?",
        ),
        heldout_questions=(
            "With which code does one call {e} by telephone?",
            "To call a number in {e}, what do you dial first?",
        ),
        statements=(
            "The calling code of {e} is {v}.",
            "{e} has the telephone code {v}.",
            "To call {e}, dial {v} first.",
            "{v} is the calling code of {e}.",
            "Telephone numbers in {e} start with {v}.",
            "One reaches {e} by telephone with the code {v}.",
            "The code {v} comes first when one dials numbers in {e}.",
            "One dials the code {v} first for a number in {e}.",
            "At the start of a telephone number in {e} is {v}.",
        ),
        heldout_statements=(
            "One dials {v} to call a number in {e}.",
            "The code {v} is at the start of telephone numbers in {e}.",
        ),
    ),
    "demonym": Phrasings(
        questions=(
            "What is a person from {e} called?",
            "What are people from {e} called?",
            "What word describes someone from {e}?",
            "Which word is used for the people of {e}?",
            "What is the word for a person who comes from {e}?",
            "What do you call the people of {e}?",
            "By which name is someone who comes from {e} known?",
            "A person who comes from {e} is described by which word?",
        ),
        heldout_questions=(
            "What do you call someone who comes from {e}?",
            "By which word is a person from {e} described?",
        ),
        statements=(
            "A person from {e} is called {v}.",
            "The word for people from {e} is {v}.",
            "Someone who comes from {e} is described as {v}.",
            "{v} is the word that describes a person from {e}.",
            "People who come from {e} are called {v}.",
            "One uses {v} as the name for people from {e}.",
            "If someone is from {e}, the word for that person is {v}.",
            "You use the word {v} when you describe people from {e}.",
            "{v} is what you call someone from {e}.",
        ),
        heldout_statements=(
            "One uses the word {v} for someone from {e}.",
            "If a person comes from {e}, you call that person {v}.",
        ),
    ),
    "official_language": Phrasings(
        questions=(
            "What is the official language of {e}?",
            "Which language is official in {e}?",
            "Which official language does {e} have?",
            "Name the official language of {e}.",
            "What language does the state speak in {e}?",
            "In {e}, official letters are written in which language?",
            "{e} has given official status to which language?",
            "What does {e} have as the language of its state?",
        ),
        heldout_questions=(
            "In {e}, which language has official status?",
            "{e} has what as its official language?",
        ),
        statements=(
            "The official language of {e} is {v}.",
            "{v} is the official language of {e}.",
            "{e} has {v} as its official language.",
            "In {e}, the language of the state is {v}.",
            "The language with official status in {e} is {v}.",
            "{v} is the language that has official status in {e}.",
            "In {e}, official laws are written in {v}.",
            "For official letters, {e} uses the language {v}.",
            "The status of state language belongs to {v} in {e}.",
        ),
        heldout_statements=(
            "{v} has the status of official language in {e}.",
            "Official letters in {e} are written in the language {v}.",
        ),
    ),
    "area_km2": Phrasings(
        questions=(
            "What is the area of {e} in square kilometres?",
            "How large is {e} in square kilometres?",
            "How many square kilometres does {e} cover?",
            "How big is the area of {e}?",
            "Give the area of {e} in square kilometres.",
            "{e} has an area of how many square kilometres?",
            "How large is the area that {e} covers?",
            "What size of area does {e} have on the map?",
        ),
        heldout_questions=(
            "{e} covers how many square kilometres?",
            "How large an area does {e} have?",
        ),
        statements=(
            "The area of {e} is {v} square kilometres.",
            "{e} covers {v} square kilometres.",
            "{e} has an area of {v} square kilometres.",
            "{e} is {v} square kilometres large.",
            "The land of {e} is {v} square kilometres big.",
            "{v} square kilometres of land are covered by {e}.",
            "The area that {e} covers is {v} square kilometres.",
            "{v} square kilometres is how large {e} is.",
            "On an area of {v} square kilometres lies {e}.",
        ),
        heldout_statements=(
            "An area of {v} square kilometres is covered by {e}.",
            "{v} square kilometres is the area that {e} covers.",
        ),
    ),
    "population": Phrasings(
        questions=(
            "What is the population of {e}?",
            "How many people live in {e}?",
            "How many inhabitants does {e} have?",
            "How large is the population of {e}?",
            "Give the population of {e}.",
            "{e} has how many people in its population?",
            "What number of inhabitants are counted in {e}?",
            "To how many people is {e} home?",
        ),
        heldout_questions=(
            "{e} is home to how many inhabitants?",
            "What number of people live in {e}?",
        ),
        statements=(
            "The population of {e} is {v}.",
            "{e} has {v} inhabitants.",
            "{v} people live in {e}.",
            "{e} is home to {v} people.",
            "The number of inhabitants of {e} is {v}.",
            "There are {v} inhabitants who live in {e}.",
            "In {e}, {v} people have their home.",
            "A population of {v} lives in {e}.",
            "As its population, {e} has {v} people.",
        ),
        heldout_statements=(
            "In {e} there live {v} inhabitants.",
            "{e} has a population of {v} people.",
        ),
    ),
}
