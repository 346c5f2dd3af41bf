"""Signing in with an API key, which starts a session, and signing out."""

from http import HTTPStatus

from flask import redirect, render_template, request, session, url_for
from flask_wtf import FlaskForm
from werkzeug import Response
from wtforms import PasswordField
from wtforms.validators import DataRequired

from shared.texts import render, text
from web.context import get_context
from web.pages import blueprint
from web.pages.safe_redirect import choose_next
from web.session import SESSION_KEY


class SignInForm(FlaskForm):
    """The form in which a person enters an API key."""

    key = PasswordField("API key", [DataRequired(render(text("missing")))])


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int]:
    """Start a session for an API key, and redirect to the page that required the key."""
    form = SignInForm()
    if not form.is_submitted():
        return render_template("pages/sign_in.html", form=form)
    owner = get_context().key_cache.find_owner(form.key.data or "") if form.validate() else None
    if owner is None:
        form.key.errors = form.key.errors or [render(text("key-unknown"))]
        return render_template("pages/sign_in.html", form=form), HTTPStatus.UNAUTHORIZED
    session.clear()
    session[SESSION_KEY] = owner
    address = choose_next(request.args.get("next"), url_for("pages.show_home"), request.script_root)
    return redirect(address, HTTPStatus.SEE_OTHER)


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """End the session."""
    session.clear()
    return redirect(url_for("pages.sign_in"), HTTPStatus.SEE_OTHER)
