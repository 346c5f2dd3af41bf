"""Compares the scores of real data sets with those of pipelines of scikit-learn; ``make tables`` runs it.

`cases` lists the data sets with a pipeline for each, written by hand; `export` writes them as files; `comparison`
evaluates them through the API and the form of a running instance, and by the pipelines; `document` writes the results
into ``docs/tables.md``.
"""
