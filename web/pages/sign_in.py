"""Signing in with an API key, which starts a session, and signing out."""

from http import HTTPStatus

from flask import redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from werkzeug import Response
from wtforms import PasswordField
from wtforms.validators import DataRequired

from shared.texts import render, text
from web.context import get_context
from web.pages import blueprint
from web.pages.safe_redirect import choose_next
from web.rate_limits import count_sign_in, count_wrong_key
from web.session import end_session, start_session


class SignInForm(FlaskForm):
    """The form in which a person enters an API key."""

    key = PasswordField("API key", [DataRequired(render(text("missing")))])


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int]:
    """Start a session for an API key, and redirect to the page that required the key."""
    form = SignInForm()
    if not form.is_submitted():
        return render_template("pages/sign_in.html", form=form)
    if not form.validate():
        return render_template("pages/sign_in.html", form=form), HTTPStatus.UNAUTHORIZED
    owner = get_context().key_cache.read().find_owner(form.key.data)
    if owner is not None:
        count_sign_in(owner)
    if owner is None or not start_session(owner):
        count_wrong_key(form.key.data)
        form.key.errors = [render(text("key-unknown"))]
        return render_template("pages/sign_in.html", form=form), HTTPStatus.UNAUTHORIZED
    address = choose_next(request.args.get("next"), url_for("pages.show_home"), request.script_root)
    return redirect(address, HTTPStatus.SEE_OTHER)


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """End the session, in every browser that has a copy of its cookie."""
    end_session()
    return redirect(url_for("pages.sign_in"), HTTPStatus.SEE_OTHER)
