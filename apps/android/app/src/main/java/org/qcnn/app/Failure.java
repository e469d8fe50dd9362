// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.Context;

/** Something that went wrong and that the user is told about, in words of res/values/strings.xml. */
final class Failure extends Exception {
    private static final long serialVersionUID = 1L;
    private final int text;
    private final transient Object[] details;

    /** A detail that is a Failure stands for its own message. */
    Failure(int text, Object... details) {
        this.text = text;
        this.details = details;
    }

    String message(Context context) {
        Object[] texts = details.clone();
        for (int i = 0; i < texts.length; i++)
            if (texts[i] instanceof Failure)
                texts[i] = ((Failure) texts[i]).message(context);
        return context.getString(text, texts);
    }
}
