"""The English sentences of tables; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # The file.
    "file-gone": "The file no longer exists. Upload it again.",
    "file-empty": "The file is empty. Upload a table with one row per sample.",
    "file-too-long": "The file has more than {max_bytes} bytes when it is unpacked. Upload fewer rows or columns.",
    "file-foreign": "The file is {what}, not a table. Save the table as CSV, Excel (.xlsx), Parquet or ARFF.",
    "file-binary": "The file is not text. Save the table as CSV, Excel (.xlsx), Parquet or ARFF; if it is a text, set its encoding.",
    "gzip-damaged": "The file is compressed by gzip, but incomplete or damaged. Upload it again, or uncompressed.",
    "zip-foreign": "The file is a zip archive, but not an Excel workbook. Upload the table in it by itself.",
    "memory-short": "The table is too large for the memory of this machine. Upload fewer rows or columns.",
    # Excel.
    "xlsx-password": "The workbook has a password. Save it without one.",
    "xls-old": "The file is of an old version of Excel, or has a password. Save it as .xlsx, without a password.",
    "xlsx-damaged": "The workbook is damaged. Open it in a spreadsheet, and save it again as .xlsx.",
    "sheet-unknown": "There is no sheet {sheet!r}. The sheets are {sheets}.",
    "sheet-empty": "The sheet {sheet!r} is empty. Choose another sheet.",
    "sheet-too-far": "The sheet {sheet!r} has cells as far as row {row} and column {column}. Delete what is outside the table, or save the table as CSV.",
    # Parquet and ARFF.
    "parquet-damaged": "The Parquet file is damaged, or has a feature that cannot be read. Write it again, or as CSV.",
    "parquet-nested": "The column {column!r} has nested values ({type}). Make columns of its parts, or leave it out.",
    "parquet-type": "The column {column!r} has the type {type}. Convert it to numbers or text, or leave it out.",
    "arff-line": "Line {line} is not a declaration of ARFF. Before @data there are only @relation and @attribute lines.",
    "arff-type": "Line {line} declares an attribute of the type {type!r}. Use numeric, nominal, string or date.",
    "arff-data-missing": "The ARFF file has no line @data. Add it before the rows.",
    "arff-sparse": "Line {line} is a sparse row of ARFF. Save the data with all values in each row.",
    # Options.
    "encoding-unknown": "The encoding {encoding!r} is not supported. Use one of {known}.",
    "delimiter-unknown": "The delimiter {delimiter!r} is not supported. Use a comma, a semicolon, a tab, a pipe or a blank.",
    "decimal-unknown": "The decimal mark {decimal!r} is not supported. Use a point or a comma.",
    "option-unused": "The option {option} has no effect on a file of the format {format}. Leave it out.",
    "delimiter-useless": "The delimiter {delimiter!r} does not divide the lines into cells. Choose another one, or let it be detected.",
    "decimal-wrong": "Column {column!r}, line {line}: with {decimal!r} as the decimal mark, {cell!r} is not a number. Choose {other!r}, or let it be detected.",
    # The size of a table.
    "one-column": "The table has one column, but a label and at least one attribute are needed. If it has more, set the delimiter.",
    "rows-missing": "The table has no rows. Add rows below the header.",
    "rows-too-many": "The table has more than {max_rows} rows. Upload fewer.",
    "columns-too-many": "The table has {columns} columns, more than {max_columns}. Upload fewer.",
    "cells-too-many": "The table has more than {max_cells} cells. Upload fewer rows or columns.",
    "name-too-long": "The name of the column that begins with {start!r} has more than {max_chars} characters. Shorten it, or set the header to false.",
    "line-too-long": "Line {line} has more than {max_chars} characters. Divide the file into lines, one per row.",
    # Places that cannot be read.
    "bad-cell": "One place of the file cannot be read: {details}. Correct it.",
    "bad-cells": "{count} places of the file cannot be read: {details}. Correct them.",
    "bad-cells-first": "{count} places of the file cannot be read. The first {named} are: {details}. Correct them all.",
    "row-uneven": "line {line} has {cells} cells instead of {width}",
    "line-undecodable": "line {line} has bytes that are not {encoding}",
    "line-nul": "line {line} has a NUL byte",
    "quote-open": "line {line} opens a quote that does not end",
    "cell-too-long": "line {line} has a cell of more than {max_chars} characters, perhaps since a quote does not end",
    "cell-not-finite": "line {line}, column {column!r}: {cell!r} is not a finite number",
    # Warnings.
    "encoding-guessed": "The file is not in UTF-8. It was read as {encoding}; if letters are wrong, set the encoding.",
    "header-missing": "The first row was read as data, not as names of columns. If it contains names, set the header to true.",
    "titles-skipped": "Lines above the table were skipped ({rows}). The first one is {first!r}.",
    "header-likely": "The first row looks like names of columns, but was read as data.",
    "decimal-ambiguous": "Column {column!r}: {cell!r} was read as {number:g}. If that is wrong, set the decimal mark.",
    "date-ambiguous": "Column {column!r}: {cell!r} is a date, but day and month cannot be told apart, so it is read as text. Write dates as 2024-01-31.",
    "integers-all-differ": "All values of {column!r} differ. If it identifies the rows, leave it out.",
    # Why a column is left out.
    "row-numbers": "{column!r} is left out: it only numbers the rows.",
    "unnamed": "{column!r} is left out: it names the rows, each differently.",
    "nearly-unique-text": "{column!r} is left out: its text differs in over 95 % of the rows.",
    "constant": "{column!r} is left out: all its cells are equal.",
    "empty": "{column!r} is left out: all its cells are missing.",
}
"""The sentences, keyed by code."""

TITLES: Final[Mapping[str, str]] = {
    "table-unreadable": "The table cannot be read",
}
"""The titles of errors, keyed by the type of error."""
